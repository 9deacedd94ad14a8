"""A job whose script is made late: when it is known for which submission of a flow run it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.connection import Connection
    from firecrest_core.spec.jobspec import JobSpec


class LateScript(Protocol):
    """What makes the script, and sends what it needs."""

    def complete(self, connection: Connection, spec: JobSpec, identity: str) -> JobSpec:
        """Return the job with its script.

        :param connection: what it is submitted with
        :param spec: the job
        :param identity: what its claim is for
        """

    async def send(self, system: System, spec: JobSpec, identity: str) -> None:
        """Send what the script needs beside itself, before it is submitted.

        :param system: where the job will run
        :param spec: the job with its script
        :param identity: what its claim is for
        """
