"""What Prefect does not promise: its contexts, transactions, pause keys, and the words of its messages.

No other module here touches any of it. ``tests/prefect/test_internals.py`` has a test for each function, which fails
where a newer Prefect has changed what the function relies on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from contextvars import Context, Token
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

if TYPE_CHECKING:
    from prefect.assets import Asset
    from prefect.blocks.core import Block
    from prefect.client.schemas.objects import FlowRun, State, TaskRun
    from prefect.transactions import BaseTransaction

PAGE_SIZE = 200
"""The most objects that Prefect's API gives in one answer, unless its server is set otherwise."""

# In the message of a flow run that crashed by KeyboardInterrupt.
_INTERRUPTED = "interrupt signal"
# In the message of a run that its own `timeout_seconds` has ended. An error of another clock says "failed due to
# timeout", and a run that passes such an end on without a limit of its own, "of None second(s)".
_TOO_LONG = re.compile(r"exceeded timeout of [\d.]+ second")

# --- blocks -----------------------------------------------------------------------------------------------


def block_name(block: Block) -> str | None:
    """Return the name under which a block was saved or loaded; ``None`` if neither happened."""
    return block._block_document_name


def handed_over_id(values: Mapping[str, Any]) -> UUID | None:
    """Return the id of the block that was saved, from the values by which Prefect hands a block to another process."""
    given = values.get("_block_document_id")
    return UUID(str(given)) if given else None


def take_identity(block: Block) -> None:
    """Let a block that was made from such values know which one it is."""
    values = block.model_extra or {}
    if block._block_document_id is None and (block_id := handed_over_id(values)) is not None:
        block._block_document_id = block_id
        block._block_document_name = values.get("_block_document_name")


def read_block_values(block_id: UUID, slug: str) -> dict[str, Any] | None:
    """Return the values of a block that was saved, with its secrets; ``None`` if there is none of its type.

    :param slug: of the type
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            document = client.read_block_document(block_id)
        except ObjectNotFound:
            return None
    return document.data if document.block_type is not None and document.block_type.slug == slug else None


def is_block_metadata(field: str) -> bool:
    """Tell whether a field that a block's class does not define is Prefect's own, and not a user's misspelt one."""
    return field.startswith("_") or field == "block_type_slug"


def unknown_fields(block: Block) -> dict[str, Any]:
    """Return the fields that were given and that the class does not define; Prefect's blocks take any."""
    return {name: value for name, value in (block.model_extra or {}).items() if not is_block_metadata(name)}


def hide_values_of(field: str) -> Callable[[dict[str, Any], type[Block]], None]:
    """Return the ``json_schema_extra`` of a block whose page hides all values of one field, a mapping with secrets.

    Prefect's own names the mapping as one secret, and then its server hides nothing of it.
    """

    def schema_extra(schema: dict[str, Any], block: type[Block]) -> None:
        from prefect.blocks.core import schema_extra as prefects_own

        prefects_own(schema, block)
        schema["secret_fields"] = [f"{name}.*" if name == field else name for name in schema["secret_fields"]]

    return schema_extra


# --- the current runs ---------------------------------------------------------------------------------------


def current_flow_run() -> FlowRun | None:
    """Return the flow run that the caller's context belongs to."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return context.flow_run if context else None


def current_flow_folder() -> Path | None:
    """Return the folder of the file with the flow that the caller's context belongs to."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return Path(inspect.getfile(inspect.unwrap(context.flow.fn))).parent if context and context.flow else None


def current_task_run() -> TaskRun | None:
    """Return the task run that the caller's context belongs to."""
    from prefect.context import TaskRunContext

    context = TaskRunContext.get()
    return context.task_run if context else None


def task_runs_with_timeout() -> list[TaskRun]:
    """Return the task runs that the caller's context is within and that have ``timeout_seconds``.

    Prefect keeps the state of these objects up to date in this process.
    """
    from prefect.context import TaskRunContext

    found = []
    context = TaskRunContext.get()
    while context is not None:
        if context.task.timeout_seconds is not None:
            found.append(context.task_run)
        before = context._token.old_value if context._token is not None else None
        context = None if before is Token.MISSING else before
    return found


def is_away_from_flow() -> bool:
    """Tell whether a task runner has brought the current task into another process than its flow's.

    A task without a flow is away, too.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return context is None or context.flow_run is None or context.detached


def tasks_change_process() -> bool:
    """Tell whether what the current flow's tasks take and return may pass from one process to another."""
    from prefect.context import FlowRunContext
    from prefect.task_runners import ThreadPoolTaskRunner

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    return context.detached or not isinstance(context.task_runner, ThreadPoolTaskRunner)


def current_run_ids() -> tuple[UUID | None, UUID | None]:
    """Return the ids of the current task run and flow run."""
    task_run, flow_run = current_task_run(), current_flow_run()
    return task_run.id if task_run else None, flow_run.id if flow_run else None


def current_run_url() -> str | None:
    """Return where Prefect's UI shows the current task run, else the current flow run."""
    from prefect.utilities.urls import url_for

    task_run_id, flow_run_id = current_run_ids()
    if task_run_id is not None:
        return url_for("task-run", obj_id=task_run_id)
    return url_for("flow-run", obj_id=flow_run_id) if flow_run_id is not None else None


def settings_context() -> Context:
    """Return a context that has Prefect's settings from the caller's, but neither its runs nor its clients."""
    from prefect.context import SettingsContext

    context = Context()
    if (settings := SettingsContext.get()) is not None:
        context.run(SettingsContext.__var__.set, settings)
    return context


def active_transactions() -> list[BaseTransaction]:
    """Return the transactions that the caller is in, the innermost first. Prefect gives one to each try of a task."""
    from prefect.transactions import get_transaction

    found = []
    transaction = get_transaction()
    while transaction is not None:
        found.append(transaction)
        transaction = transaction.get_parent()
    return found


# --- states -------------------------------------------------------------------------------------------------


def was_interrupted(state: State[Any]) -> bool:
    """Tell whether a flow run crashed by Ctrl-C, which Prefect says in words alone."""
    return state.is_crashed() and _INTERRUPTED in (state.message or "")


def took_too_long(state: State[Any] | None) -> bool:
    """Tell whether a run was ended by its own ``timeout_seconds``; one that is tried again was not."""
    return state is not None and state.name == "TimedOut" and bool(_TOO_LONG.search(state.message or ""))


def pause_keys(flow_run: FlowRun) -> frozenset[str]:
    """Return the keys of the pauses that a flow run has had since it was begun or retried."""
    return frozenset(flow_run.empirical_policy.pause_keys or ())


def current_pause_key(flow_run: FlowRun) -> str | None:
    """Return the key of the pause that a flow run is in, or of the suspension."""
    state = flow_run.state
    return state.state_details.pause_key if state is not None and state.is_paused() else None


async def suspend(flow_run_id: UUID, key: str) -> NoReturn:
    """Suspend a flow run and leave its code, as ``suspend_flow_run`` does for the current one alone.

    :param key: of the pause
    :raises Pause: always; it ends the flow's code without a failure
    """
    from prefect.exceptions import Pause
    from prefect.flow_runs import asuspend_flow_run
    from prefect.states import Suspended

    await asuspend_flow_run(flow_run_id=flow_run_id, key=key)
    raise Pause(state=Suspended(pause_key=key))


# --- assets -------------------------------------------------------------------------------------------------


def emit_materialization(asset: Asset, source: Asset, metadata: Mapping[str, Any]) -> None:
    """Emit the event that an asset was made from another one, as a task with ``@materialize`` does."""
    from prefect.context import AssetContext
    from prefect.states import Completed

    AssetContext(
        direct_asset_dependencies={source},
        downstream_assets={asset},
        materialized_by="firecrest",
        materialization_metadata={asset.key: dict(metadata)},
    ).emit_events(Completed())


def pass_downstream(assets: Collection[Asset], task_run_id: UUID) -> None:
    """Let tasks that take the result of a task run depend on these assets."""
    from prefect.context import AssetContext

    AssetContext(downstream_assets=set(assets), task_run_id=task_run_id).update_tracked_assets()
