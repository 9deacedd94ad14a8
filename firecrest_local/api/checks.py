"""Checks that endpoints depend on: the token, the system, healthy services, the path."""

import hmac
from typing import Annotated

from fastapi import Path as PathParameter
from fastapi import Query, Request

from firecrest_local.errors import ApiError
from firecrest_local.site import Site


class RequestChecks:
    """FastAPI dependencies for the requests to one cluster.

    :param site: the cluster.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def authenticated(self, request: Request) -> None:
        """Refuse a request without a valid token or API key, and keep the name of its user."""
        key = request.headers.get("x-api-key")
        if key is not None and self._site.settings.api_keys:
            if not any(hmac.compare_digest(key.encode(), one.encode()) for one in self._site.settings.api_keys):
                raise ApiError(401, "Invalid API key in request")
            request.state.user = self._site.identity.user
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"})
        request.state.user = self._site.issuer.verify(token)

    def known_system(self, system_name: str = PathParameter()) -> None:
        """Refuse a system that isn't this one."""
        if system_name != self._site.settings.system:
            raise ApiError(404, "System not found")

    def healthy_scheduler(self) -> None:
        """Refuse requests while the scheduler is unhealthy."""
        self._site.health.require("scheduler")
        self._site.health.require("ssh")

    async def given_path(self, request: Request) -> str:
        """Return the path of a file operation, from the query or the body, in its absolute and normal form."""
        normal = self._site.confinement.path(await self._requested_path(request))
        self._site.health.require("filesystem")
        return normal

    async def query_path(
        self,
        request: Request,
        path: Annotated[str | None, Query(description="The file. It is required.")] = None,  # for the specification
    ) -> str:
        """Return the path of a file operation whose path is in the query, likewise."""
        return await self.given_path(request)

    async def given_tree(self, request: Request) -> str:
        """Return the path of what is to be packed.

        `<directory>/.` stays as it is, so that tar's root is `.`, also behind a link.
        """
        path = await self.given_path(request)
        return f"{path}/." if (await self._requested_path(request)).endswith("/.") else path

    @staticmethod
    async def _requested_path(request: Request) -> str:
        path = request.query_params.get("path")
        if path is None:
            try:
                body = await request.json()
                path = next(body[name] for name in ("sourcePath", "source_path", "path") if name in body)
            except (ValueError, TypeError, StopIteration, RuntimeError):
                # RuntimeError: the JSON is too deep, or what was sent is a form, which is read already.
                raise ApiError(
                    400,
                    "Unable to decode request and retreive the required path or source_path parameter.",
                ) from None
        if not isinstance(path, str):
            raise ApiError(400, "All filesystem requests require a path or source_path parameter.")
        return path
