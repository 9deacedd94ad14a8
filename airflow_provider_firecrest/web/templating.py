"""How pages are made: templates with everything escaped, and the forms of times, durations and sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent

# Control characters, and those that change the direction of text: a name could look like another one.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(value: Any) -> Any:
    """Return a text without characters that could mislead a reader; another value as it is.

    :param value: what a template writes
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def duration(seconds: float | None) -> str:
    """Return a duration as people read it: ``45 s``, ``12 min``, ``2 h 05 min``, ``3 d 4 h``.

    :param seconds: the duration; nothing for ``None``
    """
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def moment(at: float | None) -> Markup:
    """Return a time as an element that the page's script rewrites in the viewer's time zone.

    :param at: Unix time; nothing for ``None``
    """
    if at is None:
        return Markup("")
    try:
        time = datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError, ValueError):  # somebody has edited what the task had stored
        return Markup("unknown")
    return Markup('<time datetime="{}">{}</time>').format(
        time.isoformat(timespec="seconds"), time.strftime("%Y-%m-%d %H:%M UTC")
    )


def node_hours(value: float | None) -> str:
    """Return node hours with as many digits as matter.

    :param value: node hours; nothing for ``None``
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=printable,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"duration": duration, "moment": moment, "node_hours": node_hours}


def address(request: Request, *segments: object, **query: object) -> str:
    """Return the path of a page of this app.

    :param request: the request that is answered
    :param segments: of the path
    :param query: what follows; what is empty is left out
    """
    path = "/".join([request.scope.get("root_path", ""), *(quote(str(one), safe="") for one in segments)])
    return f"{path}?{found}" if (found := urlencode({name: value for name, value in query.items() if value})) else path


def airflow_address(request: Request, *segments: object) -> str:
    """Return the path of a page of Airflow's own.

    :param request: the request that is answered
    :param segments: of the path
    """
    root = str(request.scope.get("app_root_path", ""))
    return "/".join([root, *(quote(str(one), safe="") for one in segments)])


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template.

    :param template: a file in ``templates``
    :param values: what it shows
    """
    return _environment.get_template(template).render(values)


def page(request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Return a page.

    :param request: the request that is answered
    :param template: a file in ``templates``
    :param values: what the template shows
    :param status: the HTTP status
    """
    helpers = {
        "url": lambda *segments, **query: address(request, *segments, **query),
        "job_url": lambda job, *more: address(request, *job.address, *more),
        "airflow": lambda *segments: airflow_address(request, *segments),
    }
    return HTMLResponse(render(template, {**helpers, **values}), status)
