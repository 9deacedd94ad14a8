"""What of a job run another process needs that finds it in a result of Prefect's: the credentials, and the secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import SecretStr

from firecrest_core.errors import ConfigurationError
from prefect_firecrest.credentials import FirecRESTCredentials

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from firecrest_core.spec.jobspec import JobSpec


class PortableRun:
    """A job with its credentials, which can be pickled, as Prefect does with results that it keeps.

    The client's secret is left out and read from the credentials' block again, so a run that is used in another process
    needs credentials that were saved. The job's own secrets are encrypted with the client's.

    :param credentials: what it was submitted with
    :param job: the job
    :param spec: what was asked for; ``None`` for a job that somebody else submitted
    """

    def __init__(self, credentials: FirecRESTCredentials, job: Job, spec: JobSpec | None) -> None:
        self._credentials: FirecRESTCredentials | str = credentials
        self.job = job
        self.spec = spec
        self._sealed_spec: dict[str, Any] | None = None

    def whole_spec(self, connection: Connection) -> JobSpec:
        """Return what was asked for, with the secrets that another process has left out.

        :param connection: that of the credentials
        """
        from firecrest_core.spec.sealing import unseal

        assert self.spec is not None, "a job that somebody else submitted is not submitted again"
        return unseal(self._sealed_spec, connection.secret) if self._sealed_spec else self.spec

    @asynccontextmanager
    async def _on_system(self) -> AsyncIterator[System]:
        from prefect_firecrest.clients import client_of

        credentials = await self.load_credentials()
        async with client_of(credentials.connection(), credentials.saved_as) as client:
            yield client.system(self.job.system)

    async def load_credentials(self) -> FirecRESTCredentials:
        """Return the credentials that it is asked for with, from their block where another process has left them out.

        :raises ConfigurationError: they were never saved, and another process has them
        """
        if isinstance(self._credentials, str):
            self._credentials = await FirecRESTCredentials.aload(self._credentials)
        if not self._credentials.client_secret.get_secret_value():
            raise ConfigurationError(
                f"{self.job} on {self.job.system} was handed over without the client's secret, which is never stored "
                "with a result. Save the credentials as a block (FirecRESTCredentials.save), and it is read from there."
            )
        return self._credentials

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()  # within a process the secret stays; the parts are immutable

    def __getstate__(self) -> dict[str, Any]:
        from firecrest_core.spec.sealing import seal

        state, kept = dict(self.__dict__), self._credentials
        if isinstance(kept, FirecRESTCredentials):
            if self.spec is not None and self.spec.secrets:
                state["_sealed_spec"] = seal(self.spec, kept.connection().secret)
                state["spec"] = replace(self.spec, environment=self.spec.plain_environment)
            saved_as = kept.saved_as
            kept = saved_as or kept.model_copy(update={"client_secret": SecretStr("")})
        return {**state, "_credentials": kept}
