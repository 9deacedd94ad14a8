"""What Airflow does not promise, and this provider stands on.

When Airflow changes one of these things, the test says which function of ``airflow_internals`` is to be changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

TASK = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}


@contextmanager
def contract(function: object, assumption: str) -> Iterator[None]:
    """Say which function no longer works, and what Airflow has changed, where the body fails."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        name = getattr(function, "__name__", function)
        pytest.fail(f"airflow_internals.{name} assumes that {assumption}. This Airflow differs: {error!r}")
