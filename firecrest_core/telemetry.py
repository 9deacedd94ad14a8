"""Numbers of what goes on inside, for an engine's own metrics. Nobody takes them unless a face says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Telemetry(Protocol):
    """Takes numbers. Names are like ``jobs.waiting``; tags say of what they are."""

    def count(self, name: str, **tags: str) -> None:
        """Count one more."""

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Take a number as it is now."""

    def timing(self, name: str, seconds: float, **tags: str) -> None:
        """Take how long something has lasted."""


_taker: Telemetry | None = None


def give_to(taker: Telemetry | None) -> None:
    """Give all numbers of this process to somebody from now on.

    :param taker: who takes them; ``None`` for nobody
    """
    global _taker  # one for the process, as the engines' own metrics are
    _taker = taker


def count(name: str, **tags: str) -> None:
    """Count one more, for example ``requests`` with the status of their answers."""
    if _taker is not None:
        _try(_taker.count, name, **tags)


def gauge(name: str, value: float, **tags: str) -> None:
    """Say a number as it is now, for example ``jobs.waiting``."""
    if _taker is not None:
        _try(_taker.gauge, name, value, **tags)


def timing(name: str, seconds: float, **tags: str) -> None:
    """Say how long something has lasted, for example ``poll``."""
    if _taker is not None:
        _try(_taker.timing, name, seconds, **tags)


def _try(take: Callable[..., None], *arguments: object, **tags: str) -> None:
    try:
        take(*arguments, **tags)
    except Exception as error:  # whatever is wrong with the metrics, jobs are not concerned
        log.debug("A number was not taken: %s", error)
