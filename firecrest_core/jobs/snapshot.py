"""What one sees of a job, at any time of its life: the faces store it where their pages and tables read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from firecrest_core.states import JobState


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """Something that happened to a job.

    :param at: Unix time on our clock
    :param text: one line, as it stands in the log
    """

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """A job as it was seen last. Everything but the job itself may be unknown.

    :param job_id: its id, for example ``57``
    :param system: the system where it is
    :param connection_id: the engine's name of the connection that it was submitted with
    :param name: the user's name for it
    :param state: its state
    :param reason: why it waits, or why it ended so, in the scheduler's word
    :param elements: how many elements of an array have ended in which state, in words, once all have ended
    :param account: the account that pays for it
    :param partition: where it waits or runs
    :param nodes: the scheduler's node list, for example ``nid[001-004]``
    :param node_count: how many nodes it has
    :param submitted_at: Unix time
    :param expected_start: Unix time at which the scheduler expects a waiting job to start
    :param started_at: Unix time
    :param ended_at: Unix time
    :param elapsed: seconds since the start, when it was seen
    :param time_limit: seconds
    :param node_hours: what it has cost, once it has ended
    :param exit_code: of its script
    :param working_dir: absolute path of its working directory on the system
    :param stdout: path of its standard output; ``%a`` stands for an array element's index
    :param stderr: path of its standard error, in the same form
    :param usage: what it has used, once it has ended, as :meth:`firecrest_core.usage.JobUsage.to_dict` writes it
    :param seen_at: Unix time of this snapshot, on our clock
    :param metrics: the last values of its metrics, in a line
    :param history: what has happened so far, oldest first
    :param signature: of where its output is, by whoever has stored it
    """

    job_id: str
    system: str
    connection_id: str = ""
    name: str = ""
    state: JobState = JobState.PENDING
    reason: str | None = None
    elements: str = ""
    account: str = ""
    partition: str = ""
    nodes: str = ""
    node_count: int | None = None
    submitted_at: float | None = None
    expected_start: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    elapsed: int | None = None
    time_limit: int | None = None
    node_hours: float | None = None
    exit_code: int | None = None
    working_dir: str = ""
    stdout: str | None = None
    stderr: str | None = None
    usage: Mapping[str, Any] | None = None
    seen_at: float = 0.0
    metrics: str = ""
    history: tuple[HistoryLine, ...] = ()
    signature: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON types; :meth:`from_dict` reads them back."""
        mapping = {each.name: getattr(self, each.name) for each in fields(self)}
        return mapping | {"state": self.state.value, "history": [[line.at, line.text] for line in self.history]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the snapshot that :meth:`to_dict` wrote.

        :param data: what it returned; fields of later versions are left out
        :raises KeyError, TypeError, ValueError: it has another form
        """
        known = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        history = tuple(HistoryLine(float(at), str(text)) for at, text in known.get("history", ()))
        return cls(**{**known, "state": JobState(known["state"]), "history": history})
