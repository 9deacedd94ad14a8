"""The health and the load of the systems on which the shown jobs are."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancellation.accounts import Account
from airflow_provider_firecrest.web.clients import Clients
from airflow_provider_firecrest.web.jobs_table import readable_page
from airflow_provider_firecrest.web.queries import Asked
from airflow_provider_firecrest.web.shared_reads import SharedReads
from airflow_provider_firecrest.web.templating import page
from airflow_provider_firecrest.web.viewers import Viewer

routes = APIRouter()

SECONDS = 60.0
"""How long what was read holds for all viewers."""

MOST = 6
"""How many systems are shown."""

WORDS = {"free": "free", "mixed": "partly free", "allocated": "allocated", "other": "reserved", "down": "down"}


@dataclass(frozen=True)
class Load:
    """Nodes of a system that are in the same state.

    :param kind: the name of the colour
    :param number: how many
    :param start: percent of all nodes that stand before them in the bar
    :param width: percent of all nodes
    """

    kind: str
    number: int
    start: float
    width: float

    @property
    def word(self) -> str:
        """What the viewer reads."""
        return WORDS[self.kind]


@dataclass(frozen=True)
class Partition:
    """A partition.

    :param name: its name
    :param state: the scheduler's words
    :param total_nodes: how many nodes it has
    """

    name: str
    state: str
    total_nodes: int | None


@dataclass(frozen=True)
class SystemView:
    """What is known of a system.

    :param name: its name
    :param light: the name of the colour of its health
    :param scheduler: the scheduler and its version
    :param nodes: how many nodes there are
    :param counts: how they are used
    :param unhealthy: what does not work, in a sentence each
    :param partitions: its partitions
    :param error: why nothing is known
    """

    name: str
    light: str = "down"
    scheduler: str = ""
    nodes: int = 0
    counts: list[Load] = field(default_factory=list)
    unhealthy: list[str] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    error: str = ""


@routes.get("/systems")
async def show_systems(request: Request, viewer: Viewer) -> HTMLResponse:
    """Show the systems of the jobs that the address asks for.

    :param request: the request
    :param viewer: the user
    """
    asked = Asked.read(request.query_params)
    rows = (await asyncio.to_thread(readable_page, asked.query(), viewer)).rows
    teams = await asyncio.to_thread(airflow_internals.teams_of, {row.dag_id for row in rows})
    used: dict[str, Account] = {}
    for row in rows:
        if row.snapshot.connection_id and row.snapshot.system:
            used.setdefault(row.snapshot.system, Account(row.snapshot.connection_id, teams.get(row.dag_id)))
    clients: Clients = request.app.state.clients
    reads: SharedReads[SystemView] = request.app.state.systems
    reading = [
        reads.get((account, system), partial(read_system, clients, account, system))
        for system, account in sorted(used.items())[:MOST]
    ]
    found = await asyncio.gather(*reading)
    return page(request, "systems.html", {"systems": found})


async def read_system(clients: Clients, account: Account, name: str) -> SystemView:
    """Read the health and the load of a system.

    :param clients: the clients of this process
    :param account: the connection
    :param name: the system
    """
    from firecrest_core import errors

    try:
        client = await clients.get(account)
        infos = {one.name.casefold(): one for one in await client.list_systems()}
        info = infos.get(name.casefold())
        if info is None:
            return SystemView(name, error="The connection's FirecREST has no such system any more.")
        system = client.system(name)
        nodes, partitions = await asyncio.gather(system.get_nodes(), system.get_partitions(), return_exceptions=True)
    except errors.FirecRESTError as error:
        clients.forget(account)
        return SystemView(name, error=(str(error).splitlines() or ["It cannot be asked."])[0])
    unhealthy = [f"{one.service_type} does not work: {one.message or 'no reason is given'}" for one in info.unhealthy]
    unhealthy += [
        f"FirecREST does not tell the {what}."
        for what, answer in (("nodes", nodes), ("partitions", partitions))
        if isinstance(answer, BaseException)
    ]
    loads = [] if isinstance(nodes, BaseException) else [str(one.load) for one in nodes]
    return SystemView(
        name,
        light="completed" if info.healthy else "failed",
        scheduler=f"{info.scheduler_type.capitalize()} {info.scheduler_version}".strip(),
        nodes=len(loads),
        counts=count_loads(loads),
        unhealthy=unhealthy,
        partitions=[]
        if isinstance(partitions, BaseException)
        else [Partition(one.name, " ".join(one.states), one.total_nodes) for one in partitions],
    )


def count_loads(loads: list[str]) -> list[Load]:
    """Count nodes by how they are used.

    :param loads: how each node is used
    """
    numbers, before, counts = Counter(loads), 0, []
    for kind in WORDS:
        if number := numbers[kind]:
            counts.append(Load(kind, number, round(100 * before / len(loads), 2), round(100 * number / len(loads), 2)))
            before += number
    return counts
