"""A job in the words and colours of a page."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_firecrest.monitoring.rows import JobRow
from firecrest_core.states import JobState, Phase

NEAR = 0.9
"""Part of its time limit at which a running job looks as if it may not end in time."""


def colour(state: JobState) -> str:
    """Return the name of a state's colour.

    :param state: the state
    """
    if state.phase is not Phase.ENDED:
        return str(state.phase)
    return {JobState.COMPLETED: "completed", JobState.CANCELLED: "cancelled"}.get(state, "failed")


@dataclass(frozen=True)
class TimelineSpan:
    """A part of a job's life, as a bar.

    :param kind: the name of its colour
    :param start: percent of the whole
    :param width: percent of the whole
    """

    kind: str
    start: float
    width: float


class JobView:
    """A job as templates show it.

    :param row: the job and its task
    :param now: Unix time
    """

    def __init__(self, row: JobRow, now: float) -> None:
        self.row, self.job, self._now = row, row.snapshot, now
        self.waited = row.waited(now)
        self.used = row.used(now)
        fraction = row.used_fraction(now)
        self.used_percent = None if fraction is None else 100 * fraction
        self.is_watched = row.is_watched
        self.is_forsaken = not row.is_watched and not self.job.state.ended
        self.waits = row.is_watched and self.job.state.phase is Phase.WAITING
        self.kind = "forsaken" if self.is_forsaken else colour(self.job.state)
        near = fraction is not None and fraction >= NEAR and self.kind == "running"
        self.bar = "failed" if near else self.kind

    @property
    def address(self) -> tuple[object, ...]:
        """The segments of its page's path."""
        row = self.row
        return ("jobs", row.dag_id, row.run_id, row.task_id, row.map_index, self.job.job_id)

    @property
    def task_address(self) -> tuple[object, ...]:
        """The segments of the path of its task in Airflow."""
        row = self.row
        mapped = ("mapped", row.map_index) if row.map_index >= 0 else ()
        return ("dags", row.dag_id, "runs", row.run_id, "tasks", row.task_id, *mapped)

    @property
    def task_name(self) -> str:
        """The task, with its map index."""
        return f"{self.row.task_id}[{self.row.map_index}]" if self.row.map_index >= 0 else self.row.task_id

    @property
    def life(self) -> list[TimelineSpan]:
        """The time that it waited and the time that it ran, as shares of both together."""
        waited, used = self.waited or 0.0, self.used or 0.0
        if waited + used <= 0:
            return []
        share = round(100 * waited / (waited + used), 2)
        spans = TimelineSpan("waiting", 0, share), TimelineSpan(self.kind, share, round(100 - share, 2))
        return [span for span in spans if span.width > 0]
