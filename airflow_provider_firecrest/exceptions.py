"""The core's errors as Airflow understands them.

What the user has to mend fails the task at once (``AirflowFailException``), everything else may be retried
(``AirflowException``). Each error keeps its own type as well: ``except RemotePathNotFound`` works in a TaskFlow
function, and a retry policy tells ``JobNodeFailure`` from ``JobOutOfMemory``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from firecrest_core import errors
from firecrest_core.errors import FirecRESTError


def task_error(error: FirecRESTError, *, final: bool = False) -> AirflowException:
    """Return an error as an exception that ends a task in the right way, without the traceback behind it.

    :param error: any error of the core; one that was converted already is returned as it is
    :param final: no retry helps, whatever the error
    """
    if isinstance(error, AirflowException):
        return error.with_traceback(None)
    both = _kind(type(error), final or error.user_error)  # type: ignore[arg-type]  # mypy takes an exception class for unhashable
    twin = both.__new__(both, *error.args)
    twin.__dict__.update(vars(error))
    return twin


@cache
def _kind(kind: type[FirecRESTError], final: bool) -> type[AirflowException]:
    base = AirflowFailException if final else AirflowException
    return type(kind.__name__, (kind, base), {"__doc__": kind.__doc__, "__module__": kind.__module__})


def to_event(error: FirecRESTError) -> dict[str, Any]:
    """Put an error into a trigger's event, with those of its attributes that are of JSON types.

    :param error: any error of the core
    """
    kind = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None))
    json_types = (str, int, float, bool, type(None))
    attributes = {name: value for name, value in vars(error).items() if isinstance(value, json_types)}
    return {"status": "error", "kind": kind.__name__, "message": str(error), "attributes": attributes}


def from_event(event: dict[str, Any]) -> AirflowException:
    """Read the error of :func:`to_event` back, ready to be raised.

    :param event: the trigger's event
    """
    kind = getattr(errors, event["kind"])
    error = kind.__new__(kind, event["message"])
    vars(error).update(event["attributes"])
    return task_error(error)
