"""The core's client inside a worker, where Airflow is told of its tokens."""

from __future__ import annotations

from airflow.sdk.log import amask_secret

from firecrest_core.client import FirecRESTClient


class MaskedClient(FirecRESTClient):
    """A client whose access tokens would appear as ``***`` in a task's log.

    For workers alone. Airflow keeps every masked text until its process ends and searches each line of a log
    for all of them: in the triggerer, which lives for months, a token every few minutes would slow it down.
    """

    _masked = ""

    async def _auth_headers(self) -> dict[str, str]:
        headers: dict[str, str] = await super()._auth_headers()
        token = headers["Authorization"].removeprefix("Bearer ")
        if token != self._masked:
            await amask_secret(token)
            self._masked = token
        return headers
