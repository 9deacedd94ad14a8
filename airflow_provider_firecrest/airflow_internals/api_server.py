"""Who asks the API server, and what it does in that person's name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


class MarkRefused(Exception):
    """Airflow did not mark a task instance.

    :param status: the HTTP status of its answer
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"Airflow answered {status}")
        self.status = status


async def viewer_of(request: Any) -> Any:
    """Return the user who sends a request to the API server.

    It stands on ``get_user`` of Airflow's own routes, which reads a bearer token, or the cookie of a login.

    :param request: FastAPI's
    :raises fastapi.HTTPException: 401 or 403; nobody is logged in
    """
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user

    return await get_user(request, None, await bearer_scheme(request))


def signing_key() -> str:
    """Return the secret that all API servers of this Airflow share.

    It stands on ``get_signing_key`` and the option ``[api] secret_key``.
    """
    from airflow.api_fastapi.auth.tokens import get_signing_key

    return get_signing_key("api", "secret_key")


async def mark_failed(headers: Mapping[str, str], dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
    """Mark a task instance failed as Airflow's own page does, with the rights of the person who asks for it.

    It stands on ``airflow.api_fastapi.main.app``, to which the request goes without a network.

    :param headers: of that person's request; its cookie or its token says who it is
    :param dag_id: the DAG
    :param run_id: the run
    :param task_id: the task
    :param map_index: the element of a mapped task, or -1
    :raises MarkRefused: the person may not do that, or the task is not there
    """
    import httpx

    names = [quote(name, safe="") for name in (dag_id, run_id, task_id)]
    path = "/api/v2/dags/{}/dagRuns/{}/taskInstances/{}/{}".format(*names, map_index)
    who = {name: headers[name] for name in ("authorization", "cookie") if name in headers}
    transport = httpx.ASGITransport(app=sys.modules["airflow.api_fastapi.main"].app)
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        answer = await client.patch(path, json={"new_state": "failed"}, headers=who)
    if answer.is_error:
        raise MarkRefused(answer.status_code)
