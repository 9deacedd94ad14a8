"""The page of a job in a centre's own web interface, by a template of its URL."""

from __future__ import annotations

import re
from string import Formatter
from urllib.parse import quote, urlsplit

from firecrest_core.errors import ConfigurationError

NAMES = ("system", "job_id", "name", "account", "partition", "nodes", "start", "end")
"""What a template may name."""

_NEVER_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f\\]")


def check_job_url(template: str) -> None:
    """Refuse what is no template of a URL.

    :param template: for example ``https://ui.example.org/{system}/jobs/{job_id}``
    :raises ConfigurationError: it is no URL of a web page, or it names something else than :data:`NAMES`
    """
    example = "such as https://ui.example.org/{system}/jobs/{job_id}"
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise ConfigurationError(f"job_url has a brace without its other half: give a URL {example}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in NAMES or form or conversion):
            shown = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ConfigurationError(
                f"job_url names {{{shown}}}, which is nothing of a job: there are "
                + ", ".join(f"{{{known}}}" for known in NAMES)
            )
    try:
        url = urlsplit(template.format_map(dict.fromkeys(NAMES, "x")))
        usable = url.scheme in ("http", "https") and url.hostname and "@" not in url.netloc
    except ValueError:
        usable = False
    if not usable or _NEVER_IN_URLS.search(template):
        raise ConfigurationError(f"job_url is no URL of a web page: give one {example}")


def job_url(
    template: str,
    *,
    system: str,
    job_id: str,
    name: str = "",
    account: str = "",
    partition: str = "",
    nodes: str = "",
    start: float | None = None,
    end: float | None = None,
) -> str:
    """Return the URL of a job's page. What has a meaning in URLs is quoted.

    :param template: what :func:`check_job_url` accepts; an empty one gives an empty URL
    :param system: the system
    :param job_id: the job
    :param name: its name
    :param account: its account
    :param partition: its partition
    :param nodes: the scheduler's list of its nodes
    :param start: Unix time of its start, in seconds; in the URL it is in milliseconds, as Grafana takes it
    :param end: Unix time of its end; ``now``, as Grafana takes it, while there is none
    """
    values: dict[str, str] = {
        "system": system,
        "job_id": job_id,
        "name": name,
        "account": account,
        "partition": partition,
        "nodes": nodes,
        "start": "" if start is None else str(int(start * 1000)),
        "end": "now" if end is None else str(int(end * 1000)),
    }
    return template.format_map({name: quote(value, safe="") for name, value in values.items()})
