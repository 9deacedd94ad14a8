"""The core's errors as Airflow understands them.

What the user has to mend fails the task at once (``AirflowFailException``), everything else may be retried
(``AirflowException``). Each keeps its own type as well: ``except RemotePathNotFound`` works in a TaskFlow
function, and a retry policy tells ``JobNodeFailure`` from ``JobOutOfMemory``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from firecrest_core import errors
from firecrest_core.errors import FirecRESTError


def task_error(error: FirecRESTError, *, final: bool = False) -> AirflowException:
    """Return ``error`` as an exception that ends a task in the right way, without the traceback behind it.

    :param final: no retry helps, whatever the error
    """
    if isinstance(error, AirflowException):
        return error.with_traceback(None)
    both = _kind(type(error), final or error.users)  # type: ignore[arg-type]  # mypy takes an exception class for unhashable
    twin = both.__new__(both, *error.args)
    twin.__dict__.update(vars(error))
    return twin


@cache
def _kind(kind: type[FirecRESTError], final: bool) -> type[AirflowException]:
    base = AirflowFailException if final else AirflowException
    return type(kind.__name__, (kind, base), {"__doc__": kind.__doc__, "__module__": kind.__module__})


def to_event(error: FirecRESTError) -> dict[str, Any]:
    """Put an error into a trigger's event, with what it tells in JSON types besides its message."""
    kind = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None))
    facts = {name: fact for name, fact in vars(error).items() if isinstance(fact, (str, int, float, bool, type(None)))}
    return {"status": "error", "kind": kind.__name__, "message": str(error), "facts": facts}


def from_event(event: dict[str, Any]) -> AirflowException:
    """Read the error of :func:`to_event` back, ready to be raised."""
    kind = getattr(errors, event["kind"])
    error = kind.__new__(kind, event["message"])
    vars(error).update(event["facts"])
    return task_error(error)
