"""The task of a case: the job that it asks for, its policy and its chain."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from firecrest_core.api.client import System
from firecrest_core.campaign import Campaign
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from tests.campaign_kills.plan import Case, Kind

_SCRIPT = Path(__file__).with_name("payload.sh")
#: More than a case needs, so that a slow machine does not end it: its jobs get more time, or are tried again.
_ESCALATE = {
    "out_of_memory": {"memory": "x2", "max": "1G"},
    "time_limit": {"time_limit": "x2", "max": "00:10:00"},
    "node_failure": {"max": 20},
}
_CHAIN = {"max_jobs": 40, "signal": "B:USR1@1", "done": "work.done", "checkpoint": "ckpt/*"}
# Half of it is for waiting at the gate.
_AHEAD_LIMIT = "00:00:10"
_CHAINS = {
    Kind.CHAIN: _CHAIN,
    Kind.ARRAY_CHAIN: {**_CHAIN, "done": "run-%a/work.done", "checkpoint": "run-%a/ckpt/*"},
}


def campaign(system: System, case: Case, folder: Path) -> Campaign:
    """Return the campaign of a case.

    :param system: where it runs
    :param case: the case
    :param folder: its directory there
    """
    fields: dict[str, Any] = {"array": f"0-{len(case.ends) - 1}"} if case.kind.is_array else {}
    spec = JobSpec(
        script=_script(case),
        working_dir=str(folder),
        name=case.name,
        memory="64M",
        time_limit="00:01:00" if case.kind is Kind.ARRAY else _AHEAD_LIMIT if case.ahead else "00:00:04",
        **fields,
    )
    chain = _CHAINS.get(case.kind)
    return Campaign.parse(system, spec, _ESCALATE, chain and {**chain, "ahead": case.ahead})


def key(case: Case) -> ClaimKey:
    """Return the key of a case's first job, as its engine knows it from the first try on."""
    return ClaimKey(case.name)


def _script(case: Case) -> str:
    first, rest = _SCRIPT.read_text().split("\n", 1)
    ends = " ".join(
        f"[{element}]={shlex.quote(' '.join(map(str, jobs)))}"
        for element, jobs in zip(case.elements, case.ends, strict=True)
    )
    return f"{first}\nKIND={case.kind} STEPS={case.steps} stopped=\ndeclare -A ENDS=({ends})\n{rest}"
