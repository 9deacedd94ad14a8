"""What the reconciler believes, and how it goes on where it fails, on the harness's API and the embedded FirecREST."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Cancelling, Completed
from pydantic import SecretStr

from firecrest_core import FirecRESTClient, lifecycle, pauses
from firecrest_core.api.client_tokens import ClientTokens
from firecrest_core.errors import FirecRESTError, ServerFault
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST
from prefect_firecrest import FirecRESTCredentials, FirecRESTJobRun, submit_job
from prefect_firecrest.cancellation import records, saved_credentials
from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.cancellation.reconciler import Reconciler
from prefect_firecrest.cancellation.records import ARTIFACT_TYPE, JobRecord, RecordArtifact, RecordWriter
from prefect_firecrest.cancellation.saved_credentials import SavedCredentials
from prefect_firecrest.cancellation.signatures import RecordSignatures
from prefect_firecrest.hooks import cancel_jobs
from prefect_firecrest.runtime import runtime
from tests.prefect.real import until

NAME = "signing"


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    """A process that knows nothing, and an API without artifacts."""

    async def delete() -> None:
        async with get_client() as client:
            while found := await client.read_artifacts():  # a page of 200, and other tests leave more
                for artifact in found:
                    await client.delete_artifact(artifact.id)

    for kind in (SavedCredentials, RecordSignatures, records._BrokenArtifacts):
        runtime._states.pop(kind, None)
    runtime.run(delete())
    yield
    runtime.run(delete())


@pytest.fixture
def saved(credentials: FirecRESTCredentials) -> FirecRESTCredentials:
    credentials.save(NAME, overwrite=True)
    return credentials


@pytest.fixture
def rotate(f7t: LocalFirecREST) -> Iterator[Callable[[], None]]:
    """Change the secret of the client, for one test: the Prefect server of other tests has stored the first one."""
    first = f7t.client_secret
    yield f7t.issuer.rotate
    f7t.issuer.client_secret = first


@pytest.fixture
def submitted(make: Callable[..., Any], workdir: Path) -> Callable[[], FirecRESTJobRun]:
    """Submit jobs that run until they are cancelled."""

    def submitted() -> FirecRESTJobRun:
        path = workdir / uuid4().hex
        path.mkdir()
        run = make("touch began; sleep 60", working_dir=str(path)).trigger()
        until((path / "began").exists, "the start of the job")
        return run

    return submitted


@flow
def nothing() -> None: ...


async def flow_run(state: Any = None) -> UUID:
    async with get_client() as client:
        return (await client.create_flow_run(nothing, state=state or Cancelled())).id


def record_of(run: FirecRESTJobRun) -> JobRecord:
    key = run.job.key
    return JobRecord(
        credentials=NAME, system=run.system, working_dir=run.job.working_dir, identity=key.identity, epoch=key.epoch
    )


def write(flow_runs: tuple[UUID, ...], *written: JobRecord) -> None:
    async def write() -> None:
        for record in written:
            await RecordWriter().write(flow_runs, record)

    runtime.run(write())


def create_artifact(data: Any) -> None:
    async def create() -> None:
        async with get_client() as client:
            await client.create_artifact(ArtifactCreate(type=ARTIFACT_TYPE, data=data))

    runtime.run(create())


def artifacts() -> list[RecordArtifact]:
    async def read() -> list[RecordArtifact]:
        async with get_client() as client:
            return await records.read(client)

    return runtime.run(read())


def reconcile(*acts: Callable[[], Any]) -> None:
    """Reconcile once, and once more after each act."""
    one = Reconciler(wait=False)

    async def once() -> None:
        await one.reconcile_once()
        await one.drain()

    runtime.run(once())
    for act in acts:
        act()
        runtime.run(once())


def is_running(run: FirecRESTJobRun) -> bool:
    return run.status().state is JobState.RUNNING


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("prefect_firecrest.cancellation")
    ]


# --- who is believed -------------------------------------------------------------------------------------------


def test_the_jobs_of_signed_records_are_cancelled(saved, submitted) -> None:
    run, cancelled = submitted(), runtime.run(flow_run())
    write((cancelled,), record_of(run).signed(saved.connection(), (cancelled,)))
    reconcile()
    assert not is_running(run)
    assert artifacts() == []


@pytest.mark.parametrize("how", ["unsigned", "of another flow run", "another job's id", "another secret"])
def test_the_jobs_of_forged_records_are_left_alone(saved, submitted, caplog, how) -> None:
    run, cancelled, other = submitted(), runtime.run(flow_run()), uuid4()
    record, connection = record_of(run), saved.connection()
    forged = {
        "unsigned": record,
        "of another flow run": record.signed(connection, (other,)),
        "another job's id": replace(record.signed(connection, (cancelled,)), identity=None, job_id=run.job_id, epoch=0),
        "another secret": record.signed(replace(connection, client_secret="guessed"), (cancelled,)),
    }[how]
    write((cancelled,), forged)
    reconcile(lambda: None)
    assert is_running(run)
    assert len(artifacts()) == 1
    (said,) = warnings(caplog)
    assert f"of flow run {cancelled} are not signed with the present secret of the credentials '{NAME}'" in said
    run.cancel()


def test_a_forged_record_beside_a_signed_one(saved, submitted) -> None:
    own, victim, cancelled = submitted(), submitted(), runtime.run(flow_run())
    write((cancelled,), record_of(own).signed(saved.connection(), (cancelled,)), record_of(victim))
    reconcile()
    assert not is_running(own)
    assert is_running(victim)
    victim.cancel()


def test_a_record_that_was_copied_to_another_flow_run_takes_nothing_from_its_own(saved, submitted) -> None:
    run, cancelled, other = submitted(), runtime.run(flow_run()), runtime.run(flow_run())
    record = record_of(run).signed(saved.connection(), (cancelled,))
    write((cancelled,), record)
    write((other,), record)
    reconcile()
    assert not is_running(run)


def test_the_hook_believes_signed_records_alone(saved, submitted) -> None:
    own, victim, cancelled = submitted(), submitted(), runtime.run(flow_run())
    write((cancelled,), record_of(victim))
    runtime._states.pop(JobMonitor, None)

    class Run:
        id = cancelled

    with pytest.raises(Exception, match="not signed"):
        cancel_jobs(None, Run(), Cancelled())
    assert is_running(victim)
    write((cancelled,), record_of(own).signed(saved.connection(), (cancelled,)))
    with pytest.raises(Exception, match="not signed"):
        cancel_jobs(None, Run(), Cancelled())
    assert not is_running(own)
    victim.cancel()


def test_claims_are_removed_by_signed_records_alone(saved, submitted, monkeypatch) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 0.0)
    own, victim, completed = submitted(), submitted(), runtime.run(flow_run(Completed()))
    for run in (own, victim):
        run.cancel()

    async def ended() -> set[str]:
        async with FirecRESTClient(saved.connection()) as client:
            return {row.job_id for row in await client.system().get_jobs() if row.state.ended}

    until(lambda: {own.job_id, victim.job_id} <= runtime.run(ended()), "the end of the jobs in the list of all")
    write((completed,), record_of(own).signed(saved.connection(), (completed,)), record_of(victim))
    reconcile()
    home = {run: Path(run.job.working_dir) / ".firecrest" / run.job.key.identity for run in (own, victim)}
    assert {run: path.exists() for run, path in home.items()} == {own: False, victim: True}


def test_a_secret_that_is_changed_while_the_reconciler_lives_changes_nothing(saved, submitted, f7t, rotate) -> None:
    run = submitted()
    waiting = runtime.run(flow_run(Completed()))  # seen, and not to be cancelled yet

    async def cancel() -> None:
        async with get_client() as client:
            await client.set_flow_run_state(waiting, Cancelled(), force=True)

    def rotate_and_cancel() -> None:
        rotate()
        saved.client_secret = SecretStr(f7t.client_secret)
        saved.save(NAME, overwrite=True)
        runtime.run(cancel())

    write((waiting,), record_of(run).signed(saved.connection(), (waiting,)))
    reconcile(rotate_and_cancel)
    assert not is_running(run)


def test_a_secret_that_was_changed_before(saved, submitted, f7t, rotate) -> None:
    run, cancelled = submitted(), runtime.run(flow_run())
    write((cancelled,), record_of(run).signed(saved.connection(), (cancelled,)))
    rotate()
    saved.client_secret = SecretStr(f7t.client_secret)
    saved.save(NAME, overwrite=True)
    run._credentials = saved
    reconcile()
    assert is_running(run)
    run.cancel()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        7,
        {"flow_runs": None, "records": []},
        {"flow_runs": [], "records": []},
        {"flow_runs": ["hunter2"], "records": []},
        {"flow_runs": [str(uuid4())], "records": None},
        {"flow_runs": [str(uuid4())], "records": [{"system": "hunter2"}]},
        {"flow_runs": [str(uuid4())], "records": [{"system": "s", "working_dir": "/w", "identity": "../hunter2"}]},
        {"flow_runs": [str(uuid4())], "records": [{"system": "s", "working_dir": "/w", "identity": "i", "epoch": -1}]},
    ],
)
def test_a_broken_artifact_does_not_stop_the_others(saved, submitted, caplog, data) -> None:
    run, cancelled = submitted(), runtime.run(flow_run())
    create_artifact(data)
    write((cancelled,), record_of(run).signed(saved.connection(), (cancelled,)))
    reconcile(lambda: None)
    assert not is_running(run)
    (said,) = warnings(caplog)
    assert "has not written it" in said
    assert "hunter2" not in said


def test_unknown_fields_are_no_obstacle(saved, submitted) -> None:
    run, cancelled = submitted(), runtime.run(flow_run())
    record = record_of(run).signed(saved.connection(), (cancelled,))
    fields = {name: value for name, value in vars(record).items() if value}
    create_artifact({"flow_runs": [str(cancelled)], "records": [fields | {"more": 1}], "more": 1})
    reconcile()
    assert not is_running(run)


# --- when something is recorded ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["secret", "system", "directory"])
def test_what_was_never_submitted_is_not_recorded(make, credentials, wrong) -> None:
    changed: dict[str, Any] = {
        "secret": {"credentials": credentials.model_copy(update={"client_secret": SecretStr("wrong")})},
        "system": {"system": "nowhere"},
        "directory": {"working_dir": "/etc"},
    }[wrong]

    @flow
    def failing() -> None:
        make("true", **changed).trigger()

    with pytest.raises(FirecRESTError):
        failing()
    assert artifacts() == []
    assert not any(one.alive for one in runtime.state(JobMonitor)._submissions.values() if not one.written)


def test_it_is_recorded_before_the_request_leaves(make, monkeypatch) -> None:
    from firecrest_core.api.client import System

    seen: list[int] = []
    submit_job = System.submit_job

    async def look(self: System, *arguments: Any, **more: Any) -> str:
        async with get_client() as client:
            seen.append(len(await records.read(client)))
        return await submit_job(self, *arguments, **more)

    monkeypatch.setattr(System, "submit_job", look)

    @flow
    def submitting() -> None:
        make("true").trigger().wait_for_completion()

    submitting()
    assert seen == [1]


# --- how it goes on where it fails -------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pauses, "time", clock)
    return clock


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests for a token."""
    logins: list[str] = []
    ask = ClientTokens.fetch

    async def counted(self: ClientTokens) -> Any:
        logins.append(self._connection.client_id)
        return await ask(self)

    monkeypatch.setattr(ClientTokens, "fetch", counted)
    return logins


def rounds(number: int, clock: Clock, after: float) -> list[Callable[[], None]]:
    def pass_time() -> None:
        clock.now += after

    return [pass_time] * number


def test_one_login_a_pause_for_all_flow_runs(saved, clock, logins, caplog) -> None:
    connection = saved.connection()
    for _ in range(10):
        cancelled = runtime.run(flow_run())
        record = JobRecord(credentials=NAME, system="local", working_dir="/wd", identity=f"task-{cancelled}")
        write((cancelled,), record.signed(connection, (cancelled,)))
    saved.client_secret = SecretStr("wrong")
    saved.save(NAME, overwrite=True)
    reconcile(*rounds(12, clock, 5.0))  # a minute
    assert len(logins) == 2
    (said,) = warnings(caplog)
    assert f"The credentials '{NAME}' cannot be used" in said
    assert len(artifacts()) == 10


def test_credentials_that_are_mended(saved, submitted, clock, caplog) -> None:
    caplog.set_level(logging.INFO)
    run, cancelled = submitted(), runtime.run(flow_run())
    write((cancelled,), record_of(run).signed(saved.connection(), (cancelled,)))
    right = saved.client_secret

    def save(secret: SecretStr) -> None:
        saved.client_secret = secret
        saved.save(NAME, overwrite=True)

    def mend() -> None:
        save(right)
        clock.now += 61

    save(SecretStr("wrong"))
    reconcile(mend)
    assert not is_running(run)
    assert f"The credentials '{NAME}' can be used again." in caplog.text


def test_what_cannot_be_cancelled_is_said_once_at_the_beginning_and_once_at_the_end(
    saved, clock, caplog, monkeypatch
) -> None:
    from prefect_firecrest.cancellation import cancel, reconciler

    monkeypatch.setattr(reconciler, "time", clock)
    attempts = AsyncMock(side_effect=ServerFault("the disk is full"))
    monkeypatch.setattr(cancel, "cancel_recorded", attempts)
    cancelled = runtime.run(flow_run())
    record = JobRecord(credentials=NAME, system="local", working_dir="/wd", identity="task")
    write((cancelled,), record.signed(saved.connection(), (cancelled,)))
    reconcile(*rounds(7, clock, 60.0), *rounds(1, clock, 7 * 24 * 3600.0))
    said = warnings(caplog)
    assert len(said) == 2
    assert "not all of its jobs can be cancelled: the disk is full" in said[0]
    assert "given up. Cancel what is left by hand (scancel): *-" in said[1]
    assert "on 'local'" in said[1]
    assert artifacts() == []
    assert attempts.await_count == 4  # at once, and after one, two and four minutes


def test_a_block_that_is_gone(clock, caplog) -> None:
    cancelled = runtime.run(flow_run())
    write((cancelled,), JobRecord(credentials="nowhere", system="local", working_dir="/wd", identity="task"))
    reconcile(*rounds(5, clock, 5.0))
    assert len(warnings(caplog)) == 1
    assert saved_credentials.FIRST_PAUSE > 25.0


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[UUID], list[str]]:
    """The events of the ends of a flow run's jobs. The first one that is sent gets no answer."""
    request, failures = PrefectClient.request, [httpx.ReadTimeout("")]

    async def fail_once(client: PrefectClient, method: str, path: str, **how: Any) -> Any:
        if path == "/events" and failures:
            raise failures.pop()
        return await request(client, method, path, **how)

    monkeypatch.setattr(PrefectClient, "request", fail_once)

    async def read(flow_run: UUID) -> list[str]:
        query = {"filter": {"any_resource": {"id": [f"prefect.flow-run.{flow_run}"]}}}
        async with get_client() as client:
            found = (await request(client, "POST", "/events/filter", json=query)).json()["events"]
            return [one["event"] for one in found if one["event"] == "firecrest.job.ended"]

    return lambda flow_run: runtime.run(read(flow_run))


def test_an_end_that_could_not_be_shown_is_shown_later(saved, submitted, clock, ends) -> None:
    run, cancelled = submitted(), runtime.run(flow_run())
    write((cancelled,), record_of(run).signed(saved.connection(), (cancelled,)))

    def pass_time() -> None:
        assert not is_running(run)
        assert len(artifacts()) == 1
        clock.now += 60

    reconcile(pass_time)
    assert artifacts() == []
    until(lambda: ends(cancelled), "the event")


def test_what_a_process_cannot_show_of_its_jobs_is_shown_by_the_reconciler(saved, make, workdir, ends) -> None:
    job = make("touch began; sleep 60", credentials=FirecRESTCredentials.load(NAME))

    @flow
    def cancelled() -> UUID:
        submit_job(job)
        until((workdir / "began").exists, "the start of the job")
        flow_run = FlowRunContext.get().flow_run.id
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run, Cancelling(), force=True)
        runtime.run(runtime.state(JobMonitor).scan())
        return flow_run

    flow_run = cancelled()
    assert len(artifacts()) == 1
    reconcile()
    assert artifacts() == []
    until(lambda: ends(flow_run), "the event")
