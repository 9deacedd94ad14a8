"""An unfinished transfer: its plan, its job, and the result when it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from firecrest_core.jobs.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A file or directory that was transferred completely.

    :param local: the path on the local side
    :param remote: the path on the system
    :param size: bytes; for a directory, of all its files together
    :param sha256: of the file, in hexadecimal; ``None`` for a directory
    """

    local: str
    remote: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPlan:
    """What is transferred, and in which form.

    :param system: the system's name
    :param local: the path on the local side, as the caller gave it
    :param remote: the file's or directory's path on the system
    :param transfer_path: the path on the system that is written or read: ``remote`` itself, or an archive
    :param transfer_size: size of the file at ``transfer_path`` in bytes
    :param transfer_sha256: SHA-256 of that file in hexadecimal; known from the start for an upload
    :param tree: whether it is a directory
    :param size: bytes of the content, without the archive around it; 0 while unknown
    :param sha256: for an upload in an archive, the SHA-256 of the file in it
    :param version: for a download, identifies the content of ``remote``, so that parts of two versions are never
        mixed; for an upload, the version of the file that was there before
    :param mode: for an upload of an executable file, the permissions that it gets, in octal; empty for none
    :param account: the account to charge for transfer jobs
    :param exact: the target is the new name itself, also where a directory is there
    :param max_unpacked_size: for a download, bytes that an archive may unpack to
    :param max_unpacked_files: for a download, how many files an archive may unpack to
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
    mode: str = ""
    account: str | None = None
    exact: bool = False
    max_unpacked_size: int | None = None
    max_unpacked_files: int | None = None

    @property
    def archived(self) -> bool:
        """Whether it is transferred in an archive."""
        return self.transfer_path != self.remote


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTransfer:
    """A transfer whose job has not ended. It can be stored as JSON and contains no usable presigned URL.

    :param job: the job to wait for
    :param plan: what is transferred
    :param encrypted_url: the URL of a download in the staging store, encrypted
    """

    job: Job
    plan: TransferPlan
    encrypted_url: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the transfer as JSON types; :meth:`from_dict` reads them back."""
        return {"job": self.job.to_dict(), "plan": asdict(self.plan), "encrypted_url": self.encrypted_url}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PendingTransfer:
        """Return the transfer that :meth:`to_dict` wrote."""
        return cls(
            job=Job.from_dict(data["job"]), plan=TransferPlan(**data["plan"]), encrypted_url=data.get("encrypted_url")
        )
