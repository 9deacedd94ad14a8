"""Which triggerers are known to be dead, and what is taken from them; the e2e test kills a real one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_firecrest import takeover

TRIGGERER = """
import sys
from pathlib import Path
from airflow_provider_firecrest.takeover import lock
print(lock(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def triggerer(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that holds a triggerer's lock, as long as it lives."""
    started: list[subprocess.Popen[str]] = []

    def start(number: int, hostname: str = "here") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRIGGERER, str(tmp_path), hostname, str(number)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    while takeover._held:
        takeover._held.pop().close()


def test_only_who_was_killed_is_dead(triggerer, tmp_path: Path) -> None:
    triggerer(1)
    killed = triggerer(2)
    elsewhere = triggerer(3, "elsewhere")
    for process in (killed, elsewhere):
        process.kill()
        process.wait()
    assert takeover.lock(tmp_path, "here", 4) == [2]
    assert takeover.lock(tmp_path, "here", 5) == []  # it is told once
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "firecrest-triggerer-elsewhere-3.lock",
        "firecrest-triggerer-here-1.lock",
        "firecrest-triggerer-here-4.lock",
        "firecrest-triggerer-here-5.lock",
    ]


def test_a_host_whose_name_begins_like_ours(triggerer, tmp_path: Path) -> None:
    process = triggerer(1, "here-2")
    process.kill()
    process.wait()
    assert takeover.lock(tmp_path, "here", 3) == []


def test_only_the_triggers_of_the_dead_and_of_ours_are_released(tables: Callable[[], Any]) -> None:
    from airflow.models.trigger import Trigger
    from sqlalchemy import select, update

    ours = "airflow_provider_firecrest.triggers.job.FirecRESTJobTrigger"
    others = "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
    with tables() as session:
        for number, (classpath, triggerer) in enumerate([(ours, 1), (ours, 2), (others, 1), (ours, None)], 1):
            session.add(Trigger(classpath, {}))
            session.flush()
            session.execute(update(Trigger).where(Trigger.id == number).values(triggerer_id=triggerer))
    takeover.release([1])
    with tables() as session:
        assert dict(iter(session.execute(select(Trigger.id, Trigger.triggerer_id)))) == {1: None, 2: 2, 3: 1, 4: None}
