"""Where the result of a function's job is, and the key that it is signed with.

To unpickle a file is to run what it says. So a result is unpickled only if the job has signed it: whoever else may
write in the working directory could put another file in its place.

The key is derived from the connection's secret, and belongs to one task. The job gets it in its script. Schedulers show
a script to its owner and to operators, and the key is of use only to somebody who may also write in the working
directory, until the result is read. That is why it is not in a file of its own like a job's secrets
(:mod:`firecrest_core.claims.secret_file`), which would cost four requests. No page, log or record of an engine shows
it.
"""

from __future__ import annotations

import hmac
import posixpath
from dataclasses import dataclass, field
from hashlib import sha256

from firecrest_core.connection import Connection
from firecrest_core.jobs.key import claims_home

# The secret has other uses, and a key must be of no use there.
_PURPOSE = b"firecrest-workflows results of functions"


@dataclass(frozen=True, slots=True)
class ResultPlace:
    """Where the jobs of one task leave what the function returned or raised.

    :param directory: absolute path of the directory; it is that of the task's claims, and is removed with them
    :param key: what the results are signed with
    """

    directory: str
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, connection: Connection, working_dir: str, identity: str) -> ResultPlace:
        """Return the place of a task.

        :param connection: what its jobs are submitted with
        :param working_dir: absolute path of the jobs' working directory
        :param identity: the task's, as in :class:`~firecrest_core.jobs.key.ClaimKey`
        """
        secret = connection.secret.get_secret_value().encode()
        key = hmac.digest(hmac.digest(secret, _PURPOSE, sha256), identity.encode(), sha256)
        return cls(claims_home(working_dir, identity), key)

    def result_file(self, job_id: str) -> str:
        """Return the absolute path of a job's result.

        :param job_id: the job's id
        """
        return posixpath.join(self.directory, f"result-{job_id}")

    @property
    def results(self) -> str:
        """Absolute path of the directory with the results of an array's elements, each under its :func:`label`."""
        return posixpath.join(self.directory, ".results")

    def call_file(self, digest: str) -> str:
        """Return the absolute path of a call that is too large for the script.

        :param digest: the SHA-256 of its content in hexadecimal
        """
        return posixpath.join(self.directory, f"call-{digest[:16]}")

    def is_signed(self, signature: str, label: str, content: bytes) -> bool:
        """Tell whether a job has signed a result.

        :param signature: what stands before the content
        :param label: the job's id; of an array's element, its :func:`label`
        :param content: the rest of the file
        """
        right = hmac.digest(self.key, f"{label}\n".encode() + content, sha256).hex()
        return hmac.compare_digest(right.encode(), signature.encode())


def label(job_id: str, index: int) -> str:
    """Return what tells the result of an array's element from all others: ``57_3``, as Slurm writes it.

    :param job_id: the array's id
    :param index: the element's
    """
    return f"{job_id}_{index}"
