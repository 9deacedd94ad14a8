"""What a person means by a name that there is not."""

from __future__ import annotations

from collections.abc import Collection


def suggestion(name: object, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: the known one that is nearest, or else all of them.

    :param name: what was given in the place of a name
    :param known: the names that there are
    """
    near = nearest(str(name), known)
    return f"there are {', '.join(known)}" if near is None else f"did you mean {near!r}?"


def nearest(name: str, known: Collection[str], *, likeness: float = 0.6) -> str | None:
    """Return the known name that is most like an unknown one; ``None`` if none is.

    :param name: the unknown one
    :param known: the names that there are
    :param likeness: how like it has to be, from 0 to 1, as ``difflib`` measures it
    """
    import difflib  # imported here because DAG files import this module, and only an error needs it

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=likeness)), None)
