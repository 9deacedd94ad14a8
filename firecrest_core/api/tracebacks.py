"""Tracebacks without the frames that hold secrets.

Error trackers, and rich with ``show_locals``, print the variables of each frame of a traceback. A secret in a type that
hides itself is safe there. But httpx and what lies below it need it as plain text: in a form, a header, or a URL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def without_frames(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Let the traceback of each error of a coroutine function end where the function is called.

    That holds for errors that nobody foresees, too, such as a time limit that ends a task in the midst of httpx.

    :param function: its arguments must hide their secrets, as a ``SecretStr`` does
    """

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except BaseException as error:
            raise error.with_traceback(None) from None

    return call
