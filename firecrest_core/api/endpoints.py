"""What the endpoints of one system share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from firecrest_core.api.answers import parse, parse_each
from firecrest_core.api.models import SystemInfo, UserInfo
from firecrest_core.api.nodes import NodeInfo, PartitionInfo
from firecrest_core.api.requests import Requests
from firecrest_core.errors import FirecRESTError, OutsideFileSystems, SystemNotFound
from firecrest_core.system_names import check_system_name

P = ParamSpec("P")
S = TypeVar("S", bound="SystemEndpoints")
T = TypeVar("T")


class SystemEndpoints:
    """Base class of the endpoints of one system (cluster) behind a FirecREST.

    :param requests: sends the requests
    :param name: the system's name, for example ``daint``
    :raises ConfigurationError: it cannot be the name of a system
    """

    def __init__(self, requests: Requests, name: str) -> None:
        self.name = check_system_name(name)
        self._requests = requests
        self._info: SystemInfo | None = None

    def __str__(self) -> str:
        return self.name

    async def info(self) -> SystemInfo:
        """Return the system's health and limits, as they were at this object's first request for them.

        From then on, :attr:`name` is the name in the server's own spelling. Servers before 2.4.0 distinguish ``Daint``
        from ``daint``.

        :raises SystemNotFound: there is no such system; the message names those that exist
        """
        if self._info is None:
            systems = {system.name: system for system in await self._requests.list_systems()}
            alike = [name for name in systems if name.casefold() == self.name.casefold()]
            if self.name not in systems and len(alike) != 1:
                known = ", ".join(sorted(systems)) or "none"
                raise SystemNotFound(f"No system {self.name!r} at {self._requests.host}. It has: {known}.")
            self._info = systems.get(self.name) or systems[alike[0]]
            self.name = self._info.name
        return self._info

    async def scheduler(self) -> Literal["slurm", "pbs"]:
        """Return the kind of the system's scheduler."""
        return "pbs" if (await self.info()).scheduler_type == "pbs" else "slurm"

    async def get_userinfo(self) -> UserInfo:
        """Return the user that the server runs commands as here, and the accounts that may be charged."""
        what = f"GET /status/{self.name}/userinfo"
        return parse(UserInfo, await self._requests.answer(self._requests.pyfirecrest.userinfo(self.name), what), what)

    async def get_nodes(self) -> list[NodeInfo]:
        """Return the system's nodes."""
        what = f"GET /status/{self.name}/nodes"
        found = await self._requests.answer(self._requests.pyfirecrest.nodes(self.name), what)
        return parse_each(NodeInfo, found, what)

    async def get_partitions(self) -> list[PartitionInfo]:
        """Return the system's partitions."""
        what = f"GET /status/{self.name}/partitions"
        found = await self._requests.answer(self._requests.pyfirecrest.partitions(self.name), what)
        return parse_each(PartitionInfo, found, what)

    def _path(self, area: str, *segments: str) -> str:
        """Return a path below the API's root: an area, such as ``compute``, this system, and further segments."""
        return "/".join(["", area, self.name, *(quote(segment, safe="") for segment in segments)])


def names_file_systems(
    request: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Awaitable[T]]:
    """Let the error for a path that is on none of the system's file systems name them.

    :param request: a method that takes such a path
    """

    @wraps(request)
    async def call(system: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await request(system, *args, **kwargs)
        except OutsideFileSystems as error:
            try:
                names = (await system.info()).describe_file_systems()
            except FirecRESTError:  # what is known is enough to correct the path
                raise error from None
            raise OutsideFileSystems(f"{error} {names}") from None

    return call
