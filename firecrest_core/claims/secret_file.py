"""The file that brings a job those of its variables that are secrets: they stand in no script.

A scheduler shows scripts to more people than their owner, and keeps them. So the secrets go into a file of mode 600, in
a directory of mode 700, before the job is submitted. The script reads the file before it runs anything of the user's,
and removes it. If the script may be started again, because it is an array or the scheduler may requeue it, the file
stays until the job's end was seen.

Each submission has a file of its own, whose name nobody can guess. So none is written while a job reads it, though the
answer to an earlier submission of the same job was lost. What is left of submissions that never ran anything is removed
with the claim: see :meth:`firecrest_core.claims.directory.ClaimDirectory.remove_secrets`.

Whoever may write in the working directory may put other files in the place of these. The script reads a file only if it
belongs to the user.
"""

from __future__ import annotations

import logging
import posixpath
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.spec.render import may_start_again
from firecrest_core.spec.script import exports
from firecrest_core.spec.shell import quote

if TYPE_CHECKING:
    from pydantic import SecretStr

log = logging.getLogger(__name__)

PREFIX = "secrets-"
"""What the names of such files begin with."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """The secrets of one submission, as a file on the system.

    :param path: its absolute path
    :param content: lines of shell that export the variables
    :param kept: the script may be started again, so it does not remove the file
    :param claimed: the directory is that of a claim; one that only holds this file is removed with it
    """

    path: str
    content: SecretStr = field(repr=False)
    kept: bool
    claimed: bool

    @classmethod
    def of_claim(cls, spec: JobSpec, directory: str, scheduler: Scheduler) -> SecretFile | None:
        """Return the file of a submission with a claim; ``None`` if the job has no secrets.

        :param spec: the job, with a script
        :param directory: the claim's
        :param scheduler: ``slurm`` or ``pbs``
        """
        if not spec.secrets:
            return None
        path = posixpath.join(directory, PREFIX + secrets.token_hex(8))
        return cls(path, _content(spec), may_start_again(spec, scheduler), claimed=True)

    @classmethod
    def without_claim(cls, spec: JobSpec, scheduler: Scheduler) -> SecretFile | None:
        """Return the file of a submission without a claim; ``None`` if the job has no secrets.

        :param spec: the job, with a script
        :param scheduler: ``slurm`` or ``pbs``
        :raises InvalidJobSpec: the script may be started again, and nobody would remove the file at last
        """
        if not spec.secrets:
            return None
        if may_start_again(spec, scheduler):
            raise errors.InvalidJobSpec(
                "environment",
                f"{', '.join(spec.secrets)}: the secrets of an array, or of a job that may be requeued, take "
                "exactly_once; without it, let the job read them from a file on the cluster",
            )
        directory = posixpath.join(spec.working_dir, ".firecrest", PREFIX + secrets.token_hex(8))
        return cls(posixpath.join(directory, PREFIX + "file"), _content(spec), kept=False, claimed=False)

    @property
    def directory(self) -> str:
        """The directory that it is in."""
        return posixpath.dirname(self.path)

    def lines(self) -> Sequence[str]:
        """Return lines of POSIX shell that export the variables, and remove the file unless it is kept.

        A shell that was told to print what it executes does not print these. In ``dash``, ``-O`` is there since 0.5.
        """
        path = quote(self.path)
        problem = quote(
            f"firecrest: {self.path}, the file with this job's secrets, is missing or somebody else's, so nothing "
            "runs. Submit the job again."
        )
        remove = f"rm -f {path}" if self.claimed else f"rm -f {path}; rmdir {quote(self.directory)}"
        return [
            "# The secrets among the variables, from a file that only its owner may read.",
            f"if ! [ -f {path} ] || ! [ -O {path} ]; then printf '%s\\n' {problem} >&2; exit 1; fi",
            f"firecrest_flags=$-; set +xv; . {path}",
            *([] if self.kept else [f"(PATH=$PATH:/usr/bin:/bin; {remove}) || :"]),
            "case $firecrest_flags in *v*) set -v ;; esac; case $firecrest_flags in *x*) set -x ;; esac",
            "unset firecrest_flags",
        ]

    @without_frames
    async def write(self, system: System) -> None:
        """Write the file. Nobody else can read it at any moment.

        :param system: where the job will run
        :raises FirecRESTError: it cannot be written
        """
        directory, name = posixpath.split(self.path)
        await system.make_directory(directory)
        await system.chmod(directory, "700")
        await system.upload_small(directory, name, self.content.get_secret_value().encode())
        await system.chmod(self.path, "600")

    async def remove(self, system: System) -> None:
        """Remove the file, because no job will read it. A failure is no error: it goes with the claim at the latest.

        :param system: where it is
        """
        await remove_quietly(system, self.path if self.claimed else self.directory)


@asynccontextmanager
async def written(system: System, file: SecretFile | None) -> AsyncIterator[None]:
    """Write a file for the submission in the body. It is removed if that fails, and it is certain that it did.

    :param system: where the job will run
    :param file: ``None`` for a job without secrets
    """
    if file is None:
        yield
        return
    try:
        await file.write(system)
        yield
    except errors.SubmissionUnknown:
        raise
    except Exception:
        await file.remove(system)
        raise


async def remove_quietly(system: System, path: str) -> None:
    """Remove a file with secrets, or its directory; a failure is no error.

    :param system: where it is
    :param path: its absolute path
    """
    try:
        await system.remove(path, missing_ok=True)
    except errors.FirecRESTError as error:
        log.debug("%s stays: %s", path, error)


def _content(spec: JobSpec) -> SecretStr:
    from pydantic import SecretStr

    return SecretStr("\n".join(exports(spec.secrets)) + "\n")
