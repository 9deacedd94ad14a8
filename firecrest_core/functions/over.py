"""The parameters of a function of which each element of a job array gets its own value.

The call has a list of values for each of them, and one value for each of the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.near_names import suggestion
from firecrest_core.spec.points import ARRAY_SIZE

_NO_LISTS = (str, bytes, bytearray, Mapping)
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class SplitCall:
    """The arguments of a call, those that are the same for all elements apart from those that are not.

    :param args: the positional arguments, with ``None`` where each element puts its own
    :param kwargs: the keyword arguments, in the same form
    :param places: where an element puts its values: positions in ``args``, and names in ``kwargs``
    :param elements: for each element its values, in the order of ``places``; empty if the function is called once
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    places: tuple[int | str, ...] = ()
    elements: tuple[tuple[Any, ...], ...] = ()

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], over: Sequence[str]
    ) -> SplitCall:
        """Split the arguments of a call.

        :param function: the function
        :param args: its positional arguments
        :param kwargs: its keyword arguments
        :param over: names of its parameters, as :func:`read_over` returns them; empty if the function is called once
        :raises InvalidJobSpec: as :func:`check_values`
        """
        if not over:
            return cls(tuple(args), kwargs)
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
        columns = {name: bound.arguments.get(name) for name in over}
        check_values(columns)
        for name in over:
            bound.arguments[name] = None
        positions = {name: position for position, name in enumerate(signature.parameters)}
        places = tuple(name if name in bound.kwargs else positions[name] for name in over)
        return cls(bound.args, bound.kwargs, places, tuple(zip(*columns.values(), strict=True)))


def read_over(function: Callable[..., Any], over: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the parameters of which each element gets its own value.

    :param function: the function
    :param over: a name, or several; ``None`` if the function is called once
    :raises InvalidJobSpec: the function has no such parameter
    """
    if over is None:
        return ()
    names = (over,) if isinstance(over, str) else tuple(over) if isinstance(over, Sequence) else ()
    if not names:
        raise InvalidJobSpec("over", f"{over!r} names no parameter of {function.__name__}; give a name, or a list")
    parameters = inspect.signature(function).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind not in _MANY]
    for name in names:
        if name not in known:
            raise InvalidJobSpec("over", f"{function.__name__} has no parameter {name!r}; {suggestion(name, known)}")
    return tuple(dict.fromkeys(names))


def check_values(columns: Mapping[str, Any]) -> None:
    """Refuse what cannot be the values of the elements of one array.

    :param columns: for each parameter the values of all elements
    :raises InvalidJobSpec: they are no lists of the same length, are empty, or too many for one array
    """
    for name, values in columns.items():
        if not hasattr(values, "__len__") or not hasattr(values, "__getitem__") or isinstance(values, _NO_LISTS):
            kind = "missing" if values is None else f"of type {type(values).__name__}"
            raise InvalidJobSpec("over", f"{name} is {kind}; give a list with its value for each element")
    (first, values), *others = columns.items()
    for name, other in others:
        if len(other) != len(values):
            raise InvalidJobSpec(
                "over", f"{name} has {len(other)} values, and {first} has {len(values)}; each element gets one of each"
            )
    if not len(values):
        raise InvalidJobSpec("over", f"{first} is empty, so there is nothing to run; give at least one value")
    if len(values) > ARRAY_SIZE:
        raise InvalidJobSpec(
            "over",
            f"{first} has {len(values)} values, and one array has {ARRAY_SIZE} elements at most; call the function for "
            "a part of them at a time",
        )
