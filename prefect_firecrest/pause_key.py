"""What a suspended flow run waits for, as the key of its pause.

Prefect keeps the keys of a flow run until it is retried. So a run that begins anew can tell that it was suspended for
the very job that it asks for, and the reconciler can tell which job's end resumes the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

# Characters of the digest in a key.
_DIGEST = 12


@dataclass(frozen=True)
class PauseKey:
    """A job that a flow run is suspended for, as text.

    :param digest: stands for what was asked for, see :func:`firecrest_core.jobs.key.digest_of`
    :param fingerprint: the identity of the job's claim, as the job's name has it
    :param number: how often the flow run was suspended for this job before: Prefect takes each key once
    """

    digest: str
    fingerprint: str
    job_id: str
    number: int

    def __str__(self) -> str:
        return f"firecrest-{self.digest[:_DIGEST]}-{self.fingerprint}-{self.job_id}-{self.number}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Return ``None`` for the key of a pause that somebody else asked for."""
        match (text or "").split("-"):
            case ["firecrest", digest, fingerprint, job_id, number] if number.isdecimal():
                return cls(digest, fingerprint, job_id, int(number))
        return None


def pauses_for(pause_keys: Iterable[str], digest: str) -> list[PauseKey]:
    """Return the pauses of a flow run that waited for a job of this digest."""
    keys = map(PauseKey.read, pause_keys)
    return [key for key in keys if key is not None and key.digest == digest[:_DIGEST]]
