"""Lets a triggerer that is started go on at once with the jobs that a killed one has waited for.

Airflow takes a triggerer for alive until its last heartbeat is half a minute old (``[triggerer]
triggerer_health_check_threshold``), and gives its triggers to nobody before. So each triggerer keeps a file in
``AIRFLOW_HOME`` locked as long as it lives. One that starts on the same host and finds a file that nobody locks knows
that the owner is dead, and releases its FirecREST triggers, as Airflow would later: they may change hands at any
time. Other triggers are none of our business. Where no file can be made, Airflow's half minute remains.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

_held: list[IO[bytes]] = []
"""The files that this process has locked: closing one would unlock it."""


def start(hostname: str, triggerer: int) -> None:
    """Take over in a thread of this process, which is a triggerer's.

    :param triggerer: its number in Airflow's table of jobs
    """
    threading.Thread(target=_take_over, args=(hostname, triggerer), name="firecrest-takeover", daemon=True).start()


def _take_over(hostname: str, triggerer: int) -> None:
    from airflow.configuration import AIRFLOW_HOME

    try:
        if dead := lock(Path(AIRFLOW_HOME), hostname, triggerer):
            release(dead)
    except Exception:  # a directory that cannot be written, a database that is away
        log.debug("Cannot take over from a triggerer that was killed.", exc_info=True)


def lock(home: Path, hostname: str, triggerer: int) -> list[int]:
    """Show that this triggerer lives, and find those of its host that were killed."""
    prefix = f"firecrest-triggerer-{hostname}-"
    own = home / f"{prefix}{triggerer}.lock"
    new = own.with_suffix(".new")  # who starts at the same time must not see it unlocked
    file = new.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    new.rename(own)
    _held.append(file)
    dead = []
    for path in home.glob("*.lock"):
        number = path.stem.removeprefix(prefix)
        if number.isdecimal():
            with suppress(OSError), path.open("rb") as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                dead.append(int(number))
    return dead


def release(triggerers: list[int]) -> None:
    """Let any triggerer have our triggers of these."""
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from sqlalchemy import update

    ours = Trigger.classpath.startswith(f"{__package__}.", autoescape=True)
    released = update(Trigger).where(ours, Trigger.triggerer_id.in_(triggerers)).values(triggerer_id=None)
    with create_session() as session:
        session.execute(released.execution_options(synchronize_session=False))
