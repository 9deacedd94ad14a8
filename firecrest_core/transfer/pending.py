"""A transfer on its way: what was handed over, and what is left to do when its job has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from firecrest_core.jobs.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A file or directory that arrived whole.

    :param local: the path on our side
    :param remote: the path on the system
    :param size: bytes; of all files together for a directory
    :param sha256: of the file, in hexadecimal; ``None`` for a directory
    """

    local: str
    remote: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPlan:
    """What travels, and as what.

    :param local: our side, as the caller gave it
    :param remote: the file's or directory's path on the system
    :param transfer_path: the path on the system that the bytes go to or come from: ``remote`` itself, or an archive
    :param transfer_size: its bytes
    :param transfer_sha256: known from the start for an upload
    :param tree: a directory
    :param size: bytes of what travels, without the archive around it; 0 while unknown
    :param sha256: of a file in an archive, for an upload
    :param version: of ``remote``: which one is fetched, so that parts of two are never mixed; for an upload, which
        one was there before
    """

    system: str
    local: str
    remote: str
    transfer_path: str
    transfer_size: int
    transfer_sha256: str | None = None
    tree: bool = False
    size: int = 0
    sha256: str | None = None
    version: str = ""
    account: str | None = None

    @property
    def archived(self) -> bool:
        return self.transfer_path != self.remote


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTransfer:
    """A transfer whose job has yet to end. JSON-able, and without a URL that others could use.

    :param job: the job to wait for
    :param plan: what it carries
    :param encrypted_url: where a download's bytes will be, encrypted
    """

    job: Job
    plan: TransferPlan
    encrypted_url: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types alone; ``from_dict`` reads them back."""
        return {"job": self.job.to_dict(), "plan": asdict(self.plan), "encrypted_url": self.encrypted_url}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PendingTransfer:
        return cls(
            job=Job.from_dict(data["job"]), plan=TransferPlan(**data["plan"]), encrypted_url=data.get("encrypted_url")
        )
