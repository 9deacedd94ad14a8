"""What the collection relies on and Prefect does not promise. A failure here says what a newer Prefect has changed."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client, task
from prefect.assets import Asset
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.settings import PREFECT_API_URL
from prefect.states import Running, Suspended
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect.transactions import transaction

import prefect_firecrest
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, prefect_internals

PACKAGE = Path(prefect_firecrest.__file__).parent
# Prefect's modules whose contents are not promised, and names that say more than Prefect documents.
INTERNAL_MODULES = {"prefect.context", "prefect.utilities", "prefect._internal", "prefect.flow_engine"}
INTERNAL_NAMES = {"empirical_policy", "pause_keys", "pause_key", "_block_document_name", "get_parent", "detached"}


def read_flow_run(flow_run_id: UUID) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id)


def test_no_other_module_touches_them() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "prefect_internals.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(tuple(INTERNAL_MODULES)):
                found.append(f"{path.name}: {node.module}")
            if isinstance(node, ast.Attribute) and node.attr in INTERNAL_NAMES:
                found.append(f"{path.name}: {node.attr}")
    assert found == [], "this belongs into prefect_internals.py"


# --- blocks -------------------------------------------------------------------------------------------------


def test_block_name(credentials: FirecRESTCredentials) -> None:
    assert prefect_internals.block_name(credentials) is None, "a block that was never saved has a name"
    credentials.save("internals", overwrite=True)
    assert prefect_internals.block_name(credentials) == "internals", "a block does not keep the name it was saved under"
    loaded = FirecRESTCredentials.load("internals")
    assert prefect_internals.block_name(loaded) == "internals", "a block does not keep the name it was loaded by"


def test_a_block_that_is_handed_over_tells_which_one_it_is(credentials: FirecRESTCredentials) -> None:
    credentials.save("internals", overwrite=True)
    handed = credentials.model_dump(mode="json")
    assert handed["client_secret"].strip("*") == ""
    block_id = prefect_internals.handed_over_id(handed)
    assert block_id == credentials._block_document_id, "a block no longer tells its id to another process"
    read = prefect_internals.read_block_values(block_id, "firecrest-credentials")
    assert read["client_secret"] == credentials.client_secret.get_secret_value()
    assert prefect_internals.read_block_values(block_id, "secret") is None
    assert prefect_internals.read_block_values(uuid4(), "firecrest-credentials") is None
    there = FirecRESTCredentials(**read, _block_document_id=str(block_id), _block_document_name="x")
    assert (there._block_document_id, prefect_internals.block_name(there)) == (block_id, "x")


def test_is_block_metadata(credentials: FirecRESTCredentials) -> None:
    credentials.save("internals", overwrite=True)
    for block in (credentials, FirecRESTCredentials.load("internals")):
        for name in block.model_extra or {}:
            assert prefect_internals.is_block_metadata(name), f"Prefect puts a new field into blocks: {name}"
    assert not prefect_internals.is_block_metadata("time_limt")


def test_unknown_fields(credentials: FirecRESTCredentials) -> None:
    credentials.save("internals", overwrite=True)
    loaded = FirecRESTCredentials.load("internals")
    assert prefect_internals.unknown_fields(loaded) == {}
    odd = FirecRESTCredentials.model_construct(**loaded.model_dump(), time_limt=3)
    assert prefect_internals.unknown_fields(odd) == {"time_limt": 3}, "blocks no longer keep unknown fields"


def test_hide_values_of() -> None:
    hidden = FirecRESTJob.model_json_schema()["secret_fields"]
    assert "environment.*" in hidden, "Prefect's schema no longer names a mapping with secrets as one secret"
    assert "environment" not in hidden
    assert "credentials.client_secret" in hidden, "Prefect's own schema is no longer made"


# --- the current runs ---------------------------------------------------------------------------------------


def test_current_flow_run_and_task_run() -> None:
    @task
    def inner() -> tuple[Any, Any]:
        return prefect_internals.current_flow_run(), prefect_internals.current_task_run()

    @flow
    def outer() -> tuple[Any, Any, Any]:
        return prefect_internals.current_flow_run(), prefect_internals.current_task_run(), inner()

    flow_run, no_task_run, (flow_run_of_task, task_run) = outer()
    assert flow_run is not None, "a flow's code finds no flow run in Prefect's context"
    assert no_task_run is None, "a flow's code finds a task run in Prefect's context"
    assert flow_run_of_task.id == flow_run.id, "a task's code does not find its flow run in Prefect's context"
    assert task_run.flow_run_id == flow_run.id, "a task's code does not find its task run in Prefect's context"
    assert flow_run.run_count == task_run.run_count == 1, "Prefect does not count runs from 1"
    assert prefect_internals.current_flow_run() is prefect_internals.current_task_run() is None


def test_current_flow_folder() -> None:
    @task
    def inner() -> Any:
        return prefect_internals.current_flow_folder()

    @flow
    def outer() -> tuple[Any, Any]:
        return prefect_internals.current_flow_folder(), inner()

    assert outer() == (Path(__file__).parent, Path(__file__).parent), "a flow's function is not in Prefect's context"
    assert prefect_internals.current_flow_folder() is None


def test_settings_context() -> None:
    @flow
    def inside() -> Any:
        context = prefect_internals.settings_context()
        return context.run(prefect_internals.current_run_ids), context.run(PREFECT_API_URL.value)

    assert inside() == ((None, None), PREFECT_API_URL.value()), "a new context has other settings"


def test_tasks_change_process() -> None:
    @task
    def tells() -> bool:
        return prefect_internals.tasks_change_process()

    @flow
    def asks() -> tuple[bool, bool]:
        return prefect_internals.tasks_change_process(), tells.submit().result()

    assert asks() == (False, False)
    assert asks.with_options(task_runner=ProcessPoolTaskRunner(max_workers=1))() == (True, True)
    assert not tells()


def test_current_run_ids() -> None:
    @task
    def inner() -> Any:
        return prefect_internals.current_run_ids()

    @flow
    def outer() -> Any:
        return prefect_internals.current_flow_run(), prefect_internals.current_run_ids(), inner()

    flow_run, of_flow, of_task = outer()
    assert of_flow == (None, flow_run.id)
    assert of_task[0] is not None
    assert of_task[1] == flow_run.id
    assert prefect_internals.current_run_ids() == (None, None)


def test_current_run_url() -> None:
    @task
    def inner() -> str | None:
        return prefect_internals.current_run_url()

    @flow
    def outer() -> Any:
        return prefect_internals.current_run_url(), inner()

    of_flow, of_task = outer()
    assert "/runs/flow-run/" in of_flow, "Prefect's UI shows flow runs under another path"
    assert "/runs/task-run/" in of_task, "Prefect's UI shows task runs under another path"
    assert prefect_internals.current_run_url() is None


@pytest.mark.parametrize(("runner", "is_away"), [(ThreadPoolTaskRunner, False), (ProcessPoolTaskRunner, True)])
def test_is_away_from_flow(runner: Any, is_away: bool) -> None:
    @task
    def inner() -> bool:
        return prefect_internals.is_away_from_flow()

    @flow(task_runner=runner(max_workers=1))
    def outer() -> bool:
        return inner.submit().result()

    assert outer() is is_away, "a task's context does not say whether the task is in its flow's process"
    assert inner() is True, "a task without a flow finds a flow in its context"


def test_active_transactions() -> None:
    @task
    def inner() -> list[Any]:
        return prefect_internals.active_transactions()

    @flow
    def outer() -> tuple[list[Any], Any]:
        with transaction() as around:
            return inner(), around

    found, around = outer()
    assert len(found) == 2, "a task's code does not find its own transaction and the one around it"
    assert found[1] is around, "a transaction does not know the one around it"
    assert prefect_internals.active_transactions() == []


def test_a_transaction_knows_that_it_was_rolled_back() -> None:
    seen: list[Any] = []

    @flow
    def rolled_back() -> None:
        with transaction():
            seen.extend(prefect_internals.active_transactions())
            raise ValueError

    with pytest.raises(ValueError):
        rolled_back()
    assert seen[0].is_rolled_back(), "a transaction that an error ended does not say that it was rolled back"


# --- states -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "expected"), [(KeyboardInterrupt, True), (SystemExit, False)])
def test_was_interrupted(error: type[BaseException], expected: bool) -> None:
    seen: list[UUID] = []

    @flow
    def ended() -> None:
        seen.append(FlowRunContext.get().flow_run.id)
        raise error

    with pytest.raises(error):
        ended()
    state = read_flow_run(seen[0]).state
    assert state.is_crashed(), f"a flow run that {error.__name__} ended is not in the state Crashed"
    assert prefect_internals.was_interrupted(state) is expected, f"Prefect words an interrupt anew: {state.message!r}"


@pytest.fixture
def suspended() -> tuple[UUID, str]:
    """A flow run that is suspended, and the key of its pause."""
    key = f"firecrest-{uuid4()}"

    @flow
    def sleeper() -> None: ...

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(flow_id=client.create_flow(sleeper), name="internals")
        flow_run = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(flow_run.id, Suspended(pause_key=key), force=True)
    return flow_run.id, key


def test_current_pause_key(suspended: tuple[UUID, str]) -> None:
    flow_run = read_flow_run(suspended[0])
    assert prefect_internals.current_pause_key(flow_run) == suspended[1], "a suspended flow run does not tell its key"
    with get_client(sync_client=True) as client:
        [listed] = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[suspended[0]])))
    assert prefect_internals.current_pause_key(listed) == suspended[1], "a list of flow runs does not tell the key"


async def test_suspend_and_pause_keys() -> None:
    @flow
    def sleeper() -> None: ...

    async with get_client() as client:
        deployment = await client.create_deployment(flow_id=await client.create_flow(sleeper), name="internals")
        flow_run = await client.create_flow_run_from_deployment(deployment)
        await client.set_flow_run_state(flow_run.id, Running(), force=True)
        with pytest.raises(Pause):
            await prefect_internals.suspend(flow_run.id, "firecrest-1")
        flow_run = await client.read_flow_run(flow_run.id)
    assert flow_run.state.is_paused(), "a flow run cannot be suspended by its id"
    assert prefect_internals.current_pause_key(flow_run) == "firecrest-1"
    assert prefect_internals.pause_keys(flow_run) == {"firecrest-1"}, "a flow run does not keep the keys of its pauses"


def test_took_too_long() -> None:
    @flow(timeout_seconds=2)
    def slow() -> None:
        time.sleep(4)

    @task(timeout_seconds=2)
    def slow_task() -> None:
        time.sleep(4)

    states: list[Any] = [slow(return_state=True)]

    @flow
    def calls() -> None:
        states.append(slow_task(return_state=True))

    calls()
    assert len(states) == 2
    for state in states:
        assert prefect_internals.took_too_long(state), "Prefect says in other words that a timeout has passed"


def test_task_runs_with_timeout() -> None:
    found: list[Any] = []

    @flow
    def inner() -> None:
        found.extend(prefect_internals.task_runs_with_timeout())

    @task(timeout_seconds=600)
    def outer() -> None:
        inner()

    @flow
    def calls() -> str:
        return outer(return_state=True).name

    assert calls() == "Completed"
    assert {one.state.name for one in found} == {"Completed"}, (
        "a task run's state is not kept up to date in its context"
    )


# --- assets -------------------------------------------------------------------------------------------------


def test_emit_materialization(mocker) -> None:
    emit = mocker.patch("prefect.events.emit_event")
    made, source = Asset(key="file:///a"), Asset(key="firecrest://daint/a")
    prefect_internals.emit_materialization(made, source, {"size": 9})
    events = {call.kwargs["event"]: call.kwargs for call in emit.call_args_list}
    event = events["prefect.asset.materialization.succeeded"]
    assert event["resource"]["prefect.resource.id"] == made.key
    assert event["payload"] == {"size": 9}, "an asset's metadata is not the event's payload"
    assert source.key in {one["prefect.resource.id"] for one in event["related"]}, "the event does not tell the source"


def test_pass_downstream() -> None:
    asset = Asset(key="file:///a")

    @task
    def fetch() -> UUID:
        task_run_id, _ = prefect_internals.current_run_ids()
        prefect_internals.pass_downstream([asset], task_run_id)
        return task_run_id

    @flow
    def fetches() -> tuple[UUID, Any]:
        return fetch(), FlowRunContext.get().task_run_assets

    task_run_id, known = fetches()
    assert known.get(task_run_id) == {asset}, "what a task run has fetched is not known to the tasks that follow"


# --- the API ------------------------------------------------------------------------------------------------


def test_page_size() -> None:
    with get_client(sync_client=True) as client:
        answer = client._client.post("/artifacts/filter", json={"limit": prefect_internals.PAGE_SIZE})
        assert answer.is_success, f"Prefect's API gives fewer than {prefect_internals.PAGE_SIZE} objects in one answer"
