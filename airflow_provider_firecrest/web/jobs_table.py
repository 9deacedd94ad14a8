"""The table of jobs, with what is summed up above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from airflow_provider_firecrest.airflow_internals import rights
from airflow_provider_firecrest.monitoring.board import board
from airflow_provider_firecrest.monitoring.query import JobPage, JobQuery, SortKey
from airflow_provider_firecrest.web.job_view import JobView, colour
from airflow_provider_firecrest.web.queries import SCOPE, Asked
from airflow_provider_firecrest.web.templating import address, page
from airflow_provider_firecrest.web.viewers import Viewer
from firecrest_core.states import Phase

routes = APIRouter()

_COLUMNS = (
    ("State", SortKey.STATE, ""),
    ("Job", SortKey.NAME, ""),
    ("System", SortKey.SYSTEM, ""),
    ("Nodes", SortKey.NODES, "-"),
    ("Submitted", SortKey.SUBMITTED, "-"),
    ("Waited", SortKey.WAITED, "-"),
    ("Used of limit", SortKey.USED, "-"),
    ("Node hours", SortKey.NODE_HOURS, "-"),
    ("Task", SortKey.TASK, ""),
)
_NUMBERS = {SortKey.NODES, SortKey.WAITED, SortKey.NODE_HOURS}


@dataclass(frozen=True)
class Column:
    """The head of a column.

    :param label: its words
    :param address: sorts the table by it, or the other way round
    :param order: ``ascending`` or ``descending`` if the table is sorted by it
    :param number: it holds numbers
    """

    label: str
    address: str
    order: str
    number: bool


def readable_page(query: JobQuery, viewer: Any) -> JobPage:
    """Return the jobs that a viewer asks for and may see.

    :param query: which jobs
    :param viewer: the user
    """
    found = board()
    return found.find(query, rights.readable_dags(viewer, found.dag_ids()))


@routes.get("/jobs")
def show_jobs(request: Request, viewer: Viewer) -> HTMLResponse:
    """Show the jobs that the address asks for.

    :param request: the request
    :param viewer: the user
    """
    asked = Asked.read(request.query_params)
    query = asked.query()
    found = readable_page(query, viewer)
    size = query.page_size
    first = (found.page - 1) * size
    values = {
        "asked": asked,
        "scope": asked.scope,
        "kept": [(name, value) for name in (*SCOPE, "order") if (value := getattr(asked, name))],
        "jobs": [JobView(row, found.now) for row in found.rows],
        "columns": _columns(asked, query),
        "states": [
            {"word": state, "number": number, "kind": colour(state), "address": asked.address(state=state)}
            for state, number in found.sums.by_state.items()
        ],
        "hours": _hours(found),
        "choices": _choices(asked, found),
        "filtered": asked.is_filtered,
        "reset_address": asked.address(text="", state="", system="", account="", order=""),
        "systems_address": address(request, "systems") + asked.address(page=asked.page),
        "first": first + 1,
        "last": first + len(found.rows),
        "total": found.total,
        "complete": found.complete,
        "truncated": found.truncated,
        "first_address": asked.address(),
        "last_address": asked.address(page=str(found.pages)),
        "previous_address": asked.address(page=str(found.page - 1)) if found.page > 1 else None,
        "next_address": asked.address(page=str(found.page + 1)) if found.page < found.pages else None,
    }
    return page(request, "jobs.html", values)


def _columns(asked: Asked, query: JobQuery) -> list[Column]:
    columns = []
    for label, key, begin in _COLUMNS:
        order, sign = "", begin
        if query.sort is key:
            order = "descending" if query.descending else "ascending"
            sign = "" if query.descending else "-"
        columns.append(Column(label, asked.address(order=f"{sign}{key}"), order, key in _NUMBERS))
    return columns


def _hours(found: JobPage) -> list[dict[str, Any]]:
    shown = {(one.account, one.system): one.hours for one in found.sums.node_hours}
    month = {(one.account, one.system): one.hours for one in found.month.node_hours}
    payers = list(dict.fromkeys([*shown, *month]))[:_MOST_PAYERS]
    return [
        {"account": account, "system": system, "shown": shown.get(payer, 0.0), "month": month.get(payer, 0.0)}
        for payer in payers
        for account, system in [payer]
    ]


_MOST_PAYERS = 12


def _choices(asked: Asked, found: JobPage) -> list[dict[str, Any]]:
    choices = found.choices
    states = [(str(phase), f"all {phase}") for phase in Phase] + [(str(state), str(state)) for state in choices.states]
    offered = [("state", "State", states)]
    offered += [
        (name, label, [(value, value) for value in values])
        for name, label, values in (("system", "System", choices.systems), ("account", "Account", choices.accounts))
    ]
    return [
        {"name": name, "label": label, "options": options, "chosen": getattr(asked, name)}
        for name, label, options in offered
    ]
