"""Who looks at a page. Airflow leaves that to each plugin: no route of this app answers anybody else."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, HTTPException, Request

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.web.templating import airflow_address


class LoginNeeded(Exception):
    """Nobody is logged in, and a person waits for a page.

    :param address: where to log in
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


async def get_viewer(request: Request) -> Any:
    """Return Airflow's user.

    :param request: the request
    :raises LoginNeeded: for a page that a browser opens
    :raises HTTPException: 401 or 403, for anything else
    """
    try:
        return await airflow_internals.viewer_of(request)
    except HTTPException as error:
        if error.status_code == 401 and request.method == "GET" and request.headers.get("sec-fetch-dest") in _PAGES:
            query = urlencode({"next": str(request.url)})
            raise LoginNeeded(f"{airflow_address(request, 'api', 'v2', 'auth', 'login')}?{query}") from None
        raise


_PAGES = {"document", "iframe"}

Viewer = Annotated[Any, Depends(get_viewer)]
