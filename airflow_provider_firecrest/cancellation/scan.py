"""Reads all tasks' records, with what Airflow's database says of the tasks.

A task that is cleared while it runs is ``restarting`` until the scheduler hears of its worker's end. Only then does
Airflow raise its ``max_tries``. If the scheduler or the worker is lost meanwhile, Airflow forgets the clear, and the
new try would go on with the old job. So while that state lasts, the clear is noted in the task's own state store.

Where workers keep task states in a backend of their own (``[workers] state_store_backend``), there is nothing to read.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from airflow.sdk import TaskInstanceState

from airflow_provider_firecrest import airflow_internals, identity
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancellation import records
from airflow_provider_firecrest.cancellation.policy import EndReason, cancel_reason, is_finished
from airflow_provider_firecrest.cancellation.records import JobRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScannedRecord:
    """A task's record, and what Airflow's database says of the task.

    :param stored: where the record is, and what it held when it was read
    :param record: the record itself
    :param reason: why its jobs have to be cancelled, ``None`` while they may go on, or if they have ended
    :param over: its jobs have ended, and no try of the task can follow unless a person clears it
    """

    stored: StoredValue
    record: JobRecord
    reason: EndReason | None
    over: bool = False

    @property
    def row(self) -> tuple[int, str]:
        """What tells it from other records, since databases use the numbers of deleted rows again."""
        return self.stored.row, self.stored.value

    def __str__(self) -> str:
        stored = self.stored
        element = f"[{stored.map_index}]" if stored.map_index >= 0 else ""
        text = f"Task {stored.dag_id}.{stored.task_id}{element} of {stored.dag_run[1]} {self.reason}"
        return f"{text} ({stored.state})" if self.reason is EndReason.FINISHED else text


def scan(*, note_clears: bool = True) -> list[ScannedRecord]:
    """Read all records with their tasks' states.

    :param note_clears: if a task is being cleared, note that in its own state store
    """
    stored = airflow_internals.read_stored_values(records.STORE_KEY)
    if note_clears:
        noted = [_note_clear(one) for one in stored if one.state == TaskInstanceState.RESTARTING]
        if any(noted):
            stored = airflow_internals.read_stored_values(records.STORE_KEY)
    return [scanned for one in stored if (scanned := _scanned(one)) is not None]


def _note_clear(stored: StoredValue) -> bool:
    """Note that a task was cleared, unless its new try has begun, which stores a record of its own."""
    return airflow_internals.change_stored_values(
        stored, [records.STORE_KEY, identity.STORE_KEY], _forget_max_tries, only_while=TaskInstanceState.RESTARTING
    )


def _forget_max_tries(value: str) -> str:
    try:
        return json.dumps(json.loads(value) | {"max_tries": None})
    except (TypeError, ValueError):  # a worker's own state store backend keeps the value elsewhere
        return value


def _scanned(stored: StoredValue) -> ScannedRecord | None:
    try:
        record = JobRecord.parse(stored.value)
    except ValueError:  # a worker's own state store backend keeps the value elsewhere
        log.debug("The jobs of %s.%s of %s cannot be read here.", stored.dag_id, stored.task_id, stored.dag_run[1])
        return None
    cleared = stored.max_tries != record.max_tries
    if record.ended:
        return ScannedRecord(stored, record, None, over=is_finished(stored.state) and not cleared)
    if stored.ti_id is None:
        return ScannedRecord(stored, record, EndReason.DELETED)
    return ScannedRecord(stored, record, cancel_reason(stored.state, cleared=cleared))
