"""Waiting for a file, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from firecrest_core.connection import Connection
from firecrest_core.errors import AuthenticationFailed, RateLimited, RemotePathNotFound, ServerUnreachable, WaitTimedOut
from firecrest_core.file_wait import wait_for_file

AWAY = ServerUnreachable("no connection to the site")
MISSING = RemotePathNotFound("nothing is there")


class Listing:
    """A system that answers each question for a file with the next of these; the last one stays."""

    name = "rig"
    connection = Connection(
        url="https://api.example.org", token_url="https://id.example.org", client_id="me", client_secret="secret"
    )

    def __init__(self, *answers: Exception | None) -> None:
        self._answers: Iterator[Exception | None] = iter(answers)
        self._last: Exception | None = None
        self.asked: list[float] = []

    async def list_files(self, path: str) -> list[Any]:
        self.asked.append(asyncio.get_running_loop().time())
        self._last = next(self._answers, self._last)
        if self._last is not None:
            raise self._last
        return []


def test_it_asks_once_an_interval(virtually) -> None:
    system = Listing(MISSING, MISSING, None)
    virtually(wait_for_file(system, "/f", poll_interval=60))
    assert system.asked == pytest.approx([0, 60, 120])


def test_an_outage_is_waited_out_and_said_at_growing_intervals(virtually) -> None:
    system, warnings = Listing(MISSING, *[AWAY] * 60, AuthenticationFailed("wrong secret"), None), []
    virtually(wait_for_file(system, "/f", on_warning=warnings.append))
    assert warnings[0] == "Still waiting for /f. no connection to the site"
    assert 3 <= len(warnings) <= 6  # in ten minutes


def test_a_server_that_asks_for_a_pause_gets_it(virtually) -> None:
    system = Listing(RateLimited("too many requests", retry_after=300), None)
    virtually(wait_for_file(system, "/f"))
    assert system.asked == pytest.approx([0, 300])


def test_a_login_that_never_worked_fails_at_once(virtually) -> None:
    with pytest.raises(AuthenticationFailed):
        virtually(wait_for_file(Listing(AuthenticationFailed("wrong secret")), "/f"))
    system = Listing(AuthenticationFailed("wrong secret"), None)
    virtually(wait_for_file(system, "/f", reached=True))
    assert len(system.asked) == 2


@pytest.mark.parametrize(("answer", "says"), [(MISSING, "does not exist"), (AWAY, "could not be looked for at last")])
def test_a_limit(virtually, answer, says) -> None:
    system = Listing(answer)
    with pytest.raises(WaitTimedOut, match=f"/f on rig {says} after 0:00:25"):
        virtually(wait_for_file(system, "/f", timeout=25))
    assert system.asked == pytest.approx([0, 10, 20, 25])
