"""Reads what this provider keeps in Airflow's task state store, which people may edit in Airflow's API."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def read(kind: type[T], value: str) -> T:
    """Read a value of a known form.

    :param kind: a dataclass, or a collection of one
    :param value: its JSON
    :raises ValueError: it has another form; the message names the first field that is wrong, and not what it holds
    """
    from pydantic import ValidationError

    try:
        found: T = _adapter(kind).validate_json(value, strict=True)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:60]
        # The words of a check of our own have the value in them.
        problem = "it is not valid" if first["type"] == "value_error" else first["msg"]
        raise ValueError(f"{field}: {problem}" if field else problem) from None
    return found


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
