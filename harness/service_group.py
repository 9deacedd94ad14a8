"""Services that start one after another and stop together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Self


class ServiceGroup(ABC):
    """A context manager that starts several services and stops all of them, also when one of them fails to start."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @abstractmethod
    def _start(self) -> None:
        """Start all services and enter them into `_stack`."""
