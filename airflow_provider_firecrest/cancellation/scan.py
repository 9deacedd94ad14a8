"""A task's record as it was found in Airflow's database, with what the database says of the task.

A task that is cleared while it runs is ``restarting`` until the scheduler hears of its worker's end. Only then does
Airflow raise its ``max_tries``. If the scheduler or the worker is lost meanwhile, Airflow forgets the clear, and the
new try would go on with the old job. So while that state lasts, the clear is noted in the task's own state store.

Where workers keep task states in a backend of their own (``[workers] state_store_backend``), there is nothing to read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from airflow.sdk import TaskInstanceState

from airflow_provider_firecrest import airflow_internals, identity, job_records
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancel_policy import EndReason, cancel_reason, is_finished
from airflow_provider_firecrest.job_records import JobRecord

log = logging.getLogger(__name__)

Row = tuple[int, str | None]
"""What tells a record from others, since databases use the numbers of deleted rows again."""


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
    def row(self) -> Row:
        """What tells it from other records."""
        return self.stored.row, self.stored.value

    @property
    def task(self) -> str:
        """The task's name, for messages."""
        return _task(self.stored)

    def __str__(self) -> str:
        text = f"Task {self.task} {self.reason}"
        return f"{text} ({self.stored.state})" if self.reason is EndReason.FINISHED else text


class RecordParser:
    """Parses records, each of them only once while it stays the same."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[StoredValue, ScannedRecord | None]] = {}

    @property
    def rows(self) -> Collection[int]:
        """The numbers of the rows that were parsed last."""
        return self._known.keys()

    def parse(self, stored: Iterable[StoredValue]) -> list[ScannedRecord]:
        """Return the records in stored values, without those that are none.

        :param stored: all values that are there; others are forgotten
        """
        self._known = {one.row: (one, self._scanned(one)) for one in stored}
        return [scanned for _, scanned in self._known.values() if scanned is not None]

    def _scanned(self, stored: StoredValue) -> ScannedRecord | None:
        known, scanned = self._known.get(stored.row, (None, None))
        if known is not None and (known == stored or (scanned is None and known.value == stored.value)):
            return scanned  # one that cannot be read is said once
        return _scanned(stored)


def note_clears() -> None:
    """Note all tasks that are being cleared in their own state stores."""
    for one in airflow_internals.read_stored_values(job_records.STORE_KEY, state=TaskInstanceState.RESTARTING):
        note_clear(one)


def note_clear(stored: StoredValue) -> None:
    """Note that a task was cleared, unless its new try has begun, which stores a record of its own.

    :param stored: its record
    """
    airflow_internals.change_stored_values(
        stored, [stored.key, identity_key(stored)], _forget_max_tries, only_while=TaskInstanceState.RESTARTING
    )


def identity_key(record: StoredValue) -> str:
    """Return where the task state store holds what identifies the job of a record.

    :param record: as it was found
    """
    return identity.STORE_KEY if record.key == job_records.STORE_KEY else identity.CALLS_STORE_KEY


def _forget_max_tries(value: str) -> str:
    try:
        stored = json.loads(value)
    except (ValueError, RecursionError):
        return value
    # Anything else is not ours, or says where a worker's own state store backend keeps the value.
    is_ours = isinstance(stored, dict) and "max_tries" in stored
    return json.dumps(stored | {"max_tries": None}) if is_ours else value


def _scanned(stored: StoredValue) -> ScannedRecord | None:
    try:
        if stored.value is None:
            raise ValueError(f"it is longer than {airflow_internals.LONGEST_VALUE} characters")
        record = JobRecord.parse(stored.value)
    except ValueError as error:
        if _is_kept_elsewhere(stored.value):
            log.debug("The jobs of %s are kept in a worker's own state store backend.", _task(stored))
        else:
            log.warning(
                "The record of the jobs of %s cannot be read, so nothing is done about them: %s. It is the entry %r in "
                "the task's state store. If the task has ended, cancel its jobs by hand (scancel), and delete it.",
                _task(stored),
                error,
                stored.key,
            )
        return None
    cleared = stored.max_tries != record.max_tries
    if record.ended:
        return ScannedRecord(stored, record, None, over=is_finished(stored.state) and not cleared)
    if not stored.has_task:
        return ScannedRecord(stored, record, EndReason.DELETED)
    return ScannedRecord(stored, record, cancel_reason(stored.state, cleared=cleared))


def _is_kept_elsewhere(value: str | None) -> bool:
    try:
        return value is not None and airflow_internals.is_reference(json.loads(value))
    except (ValueError, RecursionError):
        return False


def _task(stored: StoredValue) -> str:
    element = f"[{stored.map_index}]" if stored.map_index >= 0 else ""
    return f"{stored.dag_id}.{stored.task_id}{element} of {stored.dag_run[1]}"
