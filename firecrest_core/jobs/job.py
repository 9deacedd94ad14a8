"""A job that exists, in a form that survives XComs, artifacts and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from firecrest_core.jobs.key import ClaimKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Which job, and what was known of it when it was submitted.

    :param stdout: path of its standard output, ``%a`` standing for an array element's index; ``None`` if unknown
    :param array_indices: the expected indices of an array, ``None`` for any other job
    :param submitted_at: Unix time; 0 for a job that was found
    :param key: what its claim is for, ``None`` for a job that was submitted without one
    """

    system: str
    job_id: str
    name: str = ""
    working_dir: str = ""
    stdout: str | None = None
    stderr: str | None = None
    array_indices: tuple[int, ...] | None = None
    submitted_at: float = 0.0
    key: ClaimKey | None = None

    def __str__(self) -> str:
        return f"Job {self.job_id} ({self.name})" if self.name else f"Job {self.job_id}"

    def submission_message(self) -> str:
        """One sentence: that it was submitted, or was there already."""
        where = f"{self.system}, in {self.working_dir}"
        if self.submitted_at:
            return f"{self} was submitted to {where}."
        return f"{self} is there already, on {where}: going on with it."

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types alone; ``from_dict`` reads them back."""
        indices = list(self.array_indices) if self.array_indices is not None else None
        return asdict(self) | {"array_indices": indices}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        indices = data.get("array_indices")
        key = data.get("key")
        return cls(
            **{
                **data,
                "array_indices": None if indices is None else tuple(indices),
                "key": None if key is None else ClaimKey.from_dict(key),
            }
        )
