"""Tasks that are over leave nothing in their working directory, with Airflow's own tables and real jobs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancellation import claim_remover
from airflow_provider_firecrest.cancellation.claim_remover import ClaimRemover
from airflow_provider_firecrest.cancellation.deletions import Deletions
from airflow_provider_firecrest.cancellation.signatures import RecordSignatures
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core import lifecycle, pauses
from firecrest_core.api.http import HTTPSession
from firecrest_core.errors import JobFailed, ServerUnreachable
from tests.accounting import accounted
from tests.airflow.reconciling import reconcile, scan

SCRIPT = "#!/bin/bash\n#SBATCH --output=/dev/null\necho $SLURM_JOB_ID >> ../runs-{name}\nexit {code}\n"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 0.0)
    monkeypatch.setattr(claim_remover, "INTERVAL", 0.0)


class Tasks:
    """Tasks of one run, whose state stores are Airflow's table."""

    def __init__(self, tables: Callable[[], Any], run_task: Callable[..., Any], ti: Any, workdir: Path) -> None:
        self.tables, self.run_task, self.template, self.workdir = tables, run_task, ti, workdir
        self.connection = FirecRESTHook().connection()
        self.instances: list[Any] = []

    def run(self, *, code: int = 0, state: str | None = "success", max_tries: int = 0, index: int | None = None) -> Any:
        """Run a task, or one of them once more, and record its end."""
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import delete, insert

        if index is None:
            index = len(self.instances)
            self.instances.append(type(self.template)(task_id="job", map_index=index))
        ti = self.instances[index]
        ti.max_tries = max_tries
        script = SCRIPT.format(name=self.workdir.name, code=code)

        def make() -> FirecRESTSubmitOperator:
            return FirecRESTSubmitOperator(
                task_id="job", script=script, working_dir=str(self.workdir), poll_interval=0.2
            )

        self._read_back(index)
        try:
            run = self.run_task(make, ti)
            asyncio.run(accounted(self.connection, self.workdir))
            return run
        except JobFailed:
            asyncio.run(accounted(self.connection, self.workdir))
            return None
        finally:
            self._store(index)
            row = {"id": uuid.uuid4(), "state": state, "max_tries": max_tries, "pool_slots": 1, "pool": "default_pool"}
            task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": index}
            with self.tables() as session:
                session.execute(delete(TaskInstance).where(TaskInstance.map_index == index))
                session.execute(insert(TaskInstance).values(**task, **row))

    def set_state(self, state: str | None, index: int = 0) -> None:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import update

        with self.tables() as session:
            session.execute(update(TaskInstance).where(TaskInstance.map_index == index).values(state=state))

    def _store(self, index: int) -> None:
        from airflow.models.task_state_store import TaskStateStoreModel as Stored
        from sqlalchemy import delete

        task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": index}
        with self.tables() as session:
            session.execute(delete(Stored).where(Stored.map_index == index))
            for key, value in self.instances[index].state_store.items():
                session.add(Stored(**task, dag_run_id=1, key=key, value=value))

    def _read_back(self, index: int) -> None:
        from airflow.models.task_state_store import TaskStateStoreModel as Stored
        from sqlalchemy import select

        with self.tables() as session:
            rows = session.execute(select(Stored.key, Stored.value).where(Stored.map_index == index))
            store = self.instances[index].state_store
            store.clear()
            store.update(dict(rows.all()))

    @property
    def runs(self) -> int:
        return len((self.workdir.parent / f"runs-{self.workdir.name}").read_text().split())

    @property
    def directories(self) -> set[str]:
        return {path.name for path in (self.workdir / ".firecrest").iterdir() if path.is_dir()}


@pytest.fixture
def tasks(connected: Any, tables: Callable[[], Any], run_task: Any, ti: Any, workdir: Path) -> Tasks:
    return Tasks(tables, run_task, ti, workdir)


def test_twenty_tasks_leave_one_directory(tasks: Tasks, workdir: Path, requests: Counter[str]) -> None:
    for _ in range(20):
        tasks.run()
    assert len(tasks.directories) == 20
    requests.clear()
    reconcile(lambda: None)
    assert requests == {"GET jobs": 1, "DELETE rm": 20}
    assert [path.name for path in workdir.iterdir()] == [".firecrest"]
    left = [path.name for path in (workdir / ".firecrest").iterdir()]
    assert len(left) <= 1  # a job that ends at once may end before it has made the stamp
    assert all(name.startswith(".pruned-") for name in left)
    assert scan() == []


@pytest.mark.parametrize("state", [None, "running", "up_for_retry", "deferred"])
def test_a_task_whose_end_is_not_on_record_keeps_its_claim(tasks: Tasks, state: str | None) -> None:
    tasks.run(state=state)
    reconcile(lambda: None)
    assert len(tasks.directories) == 1
    tasks.run(index=0)  # a worker that died before it could say so is followed by another try
    assert tasks.runs == 1


def test_a_failed_task_keeps_its_claim_while_it_is_retried(tasks: Tasks) -> None:
    tasks.run(code=3, state="up_for_retry")
    reconcile()
    tasks.run(code=3, state="failed", index=0)
    assert tasks.runs == 2
    reconcile()
    assert tasks.directories == set()


def test_nothing_is_removed_soon_after_the_end(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.run()
    now = 0.0
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 600.0)
    monkeypatch.setattr(claim_remover.time, "monotonic", lambda: now)
    remover = ClaimRemover(RecordSignatures(), Deletions())

    async def run() -> None:
        nonlocal now
        for at in (1000.0, 1500.0, 1599.0):
            now = at
            remover.begin(scan())
            await remover.drain()
        assert len(tasks.directories) == 1
        now = 1600.0
        remover.begin(scan())
        await remover.drain()

    asyncio.run(run())
    assert tasks.directories == set()


def test_a_run_after_a_clear_has_claims_of_its_own(tasks: Tasks) -> None:
    """The request that removes the old claims may arrive when the new run has begun."""
    tasks.run()
    [old] = tasks.directories
    reconcile()
    tasks.run(max_tries=1, index=0)
    assert tasks.runs == 2
    [new] = tasks.directories
    assert new != old


@pytest.mark.parametrize("removed", [True, False])
def test_a_clear_that_comes_between(tasks: Tasks, monkeypatch: pytest.MonkeyPatch, removed: bool) -> None:
    """Between the scan and what follows from it, or between the new identity and the removal."""
    tasks.run()
    forget = claim_remover._forget_identity

    def between(one: Any) -> bool:
        if not removed:
            tasks.set_state(None)
            return forget(one)
        forgotten = forget(one)
        tasks.set_state(None)
        tasks.run(max_tries=1, index=0)
        return forgotten

    monkeypatch.setattr(claim_remover, "_forget_identity", between)
    reconcile()
    if not removed:
        assert len(tasks.directories) == 1
        tasks.run(max_tries=1, index=0)
    assert tasks.runs == 2
    assert len(tasks.directories) == 1  # that of the new run, or both runs have one
    tasks.run(max_tries=1, index=0)
    assert tasks.runs == 2


def test_a_duplicate_in_the_queue_keeps_the_claim(tasks: Tasks, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy has repeated the submission; the second job begins when the first has ended."""
    bodies: list[Any] = []
    send = HTTPSession._send_once

    async def repeat(session: HTTPSession, method: str, url: str, options: dict[str, Any]) -> Any:
        if method == "POST" and url.endswith("/jobs"):
            bodies.append(options["json"])
        return await send(session, method, url, options)

    monkeypatch.setattr(HTTPSession, "_send_once", repeat)
    tasks.run()
    hook = FirecRESTHook()
    blocker = hook.submit_job(command="until [ -e go ]; do sleep 0.05; done", working_dir=str(workdir))
    body = bodies[0]
    body["job"]["script"] = body["job"]["script"].replace("\n", f"\n#SBATCH --dependency=afterok:{blocker.job_id}\n", 1)

    async def post() -> str:
        async with hook.client() as client:
            response = await client.system()._requests.session.post(
                f"/compute/{hook.connection().system}/jobs", json=body
            )
            return str(response.json()["jobId"])

    duplicate = hook.run(post())
    reconcile()
    assert len(tasks.directories) == 1
    (workdir / "go").touch()
    assert hook.wait_for_job(duplicate, poll_interval=0.2).succeeded
    assert tasks.runs == 1
    reconcile(lambda: None)
    assert tasks.directories == set()


def test_an_outage_is_no_error_and_the_claim_goes_later(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.run()
    with monkeypatch.context() as away:

        async def fail(*_: Any) -> Any:
            raise ServerUnreachable("away")

        away.setattr(HTTPSession, "_send_once", fail)
        reconcile()
    assert len(tasks.directories) == 1
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    reconcile()
    assert tasks.directories == set()


def test_what_cannot_be_removed_for_a_day_is_left_to_age(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.run()
    now = 0.0
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 600.0)
    monkeypatch.setattr(claim_remover.time, "monotonic", lambda: now)
    rounds: list[float] = []

    async def nothing(*_: Any) -> set[Any]:
        rounds.append(now)
        return set()

    monkeypatch.setattr(claim_remover, "_remove_claims", nothing)
    remover = ClaimRemover(RecordSignatures(), Deletions())

    async def run() -> None:
        nonlocal now
        while scan():
            remover.begin(scan())
            await remover.drain()
            now += 60
            assert now < 3 * 86400

    asyncio.run(run())
    assert len(rounds) < 12
    assert now > 86400


def test_a_forgotten_identity_is_begun_anew(tasks: Tasks) -> None:
    tasks.run()
    [one] = scan()
    assert claim_remover._forget_identity(one)
    assert claim_remover._forget_identity(one)  # after a crash, once more
    [stored] = airflow_internals.read_stored_values("firecrest")
    assert json.loads(stored.value) == {}


def test_a_refused_login_is_tried_ever_more_seldom(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, store: Callable[..., None], stored: dict[str, Any], requests: Any
) -> None:
    """Many tasks that end one after the other must not be a refused login each."""
    for _ in range(3):
        tasks.run()
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    for module in (claim_remover, pauses):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(RecordSignatures, "approve", lambda *_: True)
    store(stored | {"password": "wrong"})
    requests.clear()

    def pass_a_minute() -> None:
        clock.now += 60.0

    reconcile(*[pass_a_minute] * 600)
    assert sum(requests.values()) <= 15
    assert len(tasks.directories) == 3
