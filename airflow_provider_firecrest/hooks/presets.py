"""Where a DAG's presets are: a file beside the DAG's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import get_current_context


def folder_of(dag: Any) -> Path | None:
    """Return the folder of a DAG's file.

    :param dag: the DAG; ``None`` for a task without one
    """
    return Path(dag.fileloc).parent if dag is not None and dag.fileloc else None


def current_folder() -> Path | None:
    """Return the folder of the DAG whose task this process executes; ``None`` outside of a task."""
    try:
        return folder_of(get_current_context().get("dag"))
    except RuntimeError:
        return None
