"""The trigger that waits for a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
    from firecrest_core.connection import Connection


class FirecRESTJobTrigger(FirecRESTTrigger):
    """Waits for one job's end, and logs each change of its state in the task's log.

    One trigger waits from the job's submission to its end: deferring again just to log would cut Airflow's log of the
    trigger short. The event holds the job's ``result``.

    :param job: the job, as ``firecrest_core.jobs.job.Job.to_dict`` gives it
    :param owned: the job belongs to the task and ends with it; ``False`` for one that somebody else submitted
    :param fail_if_stuck: fire with ``JobStuck`` when the job can never start, instead of only warning
    """

    def __init__(self, *, job: dict[str, Any], owned: bool = True, fail_if_stuck: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self.job = job
        self.owned = owned
        self.fail_if_stuck = fail_if_stuck

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the constructor's arguments."""
        path, arguments = super().serialize()
        return path, arguments | {"job": self.job, "owned": self.owned, "fail_if_stuck": self.fail_if_stuck}

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The job, if it belongs to the task."""
        return [self.job] if self.owned else []

    def is_of_cancelled_job(self, event: dict[str, Any]) -> bool:
        """Tell whether the task's own job was cancelled."""
        from firecrest_core.states import JobState

        return self.owned and event.get("result", {}).get("state") == JobState.CANCELLED

    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Wait for the job's end, whatever it is.

        :param connection: where to ask, and as whom
        :raises JobNotFound: when the scheduler does not know the job for a minute
        :raises JobStuck: if wanted; the job is left in the queue
        """
        from firecrest_core import lifecycle
        from firecrest_core.jobs.job import Job

        job = Job.from_dict(self.job)
        async with self.client_type(connection) as client:
            result = await lifecycle.wait(
                client.system(job.system),
                job,
                poll_interval=self.poll_interval,
                on_message=self.log.info,
                fail_if_stuck=self.fail_if_stuck,
            )
        return {"result": result.to_dict()}
