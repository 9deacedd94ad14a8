"""What a suspended flow run waits for, as the key of its pause.

Prefect keeps the keys of a flow run until it is retried. So a run that begins anew can tell that it was suspended for
the very jobs that it asks for, and the reconciler can tell which jobs' end resumes the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

# Characters of the digest in a key.
_DIGEST = 12


@dataclass(frozen=True)
class AwaitedJob:
    """A job that a flow run is suspended for.

    :param digest: stands for what was asked for, see :func:`firecrest_core.jobs.key.digest_of`
    :param fingerprint: the identity of the job's claim, as the job's name has it
    """

    digest: str
    fingerprint: str
    job_id: str

    def __str__(self) -> str:
        return f"{self.digest[:_DIGEST]}.{self.fingerprint}.{self.job_id}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the job that was written as this text.

        :raises TypeError: it is none
        """
        return cls(*text.split("."))


@dataclass(frozen=True)
class PauseKey:
    """The jobs that a flow run is suspended for, as text.

    :param number: how often the flow run was suspended for jobs before: Prefect takes each key once
    """

    number: int
    jobs: tuple[AwaitedJob, ...]

    def __str__(self) -> str:
        return f"firecrest:{self.number}:{','.join(map(str, self.jobs))}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Return ``None`` for the key of a pause that somebody else asked for."""
        try:
            match (text or "").split(":"):
                case ["firecrest", number, jobs]:
                    return cls(int(number), tuple(map(AwaitedJob.read, jobs.split(","))))
        except (TypeError, ValueError):
            pass
        return None


def awaited_jobs(pause_keys: Iterable[str]) -> list[AwaitedJob]:
    """Return the jobs that a flow run was suspended for.

    :param pause_keys: the keys of its pauses
    """
    return [job for key in map(PauseKey.read, pause_keys) if key is not None for job in key.jobs]


def was_awaited(pause_keys: Iterable[str], digest: str) -> bool:
    """Tell whether a flow run was suspended for a job of this digest.

    :param pause_keys: the keys of its pauses
    """
    return any(job.digest == digest[:_DIGEST] for job in awaited_jobs(pause_keys))
