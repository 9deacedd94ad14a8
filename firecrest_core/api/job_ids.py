"""The ids of jobs, as a scheduler, a script or a user writes them, in the form that FirecREST's paths take."""

from __future__ import annotations

import re
from typing import Any

from firecrest_core.errors import InvalidJobId

# A number, or PBS's number with the name of its server. ``4711.0`` and ``4711.batch`` are steps of Slurm's.
_ID = re.compile(r"([1-9]\d*)(?:\.(?!batch$|extern$|interactive$)[A-Za-z]\S*)?")
_PART = re.compile(r"([1-9]\d*)(?:_\S*|\[.*|\+\d+|\.\w+)")


def read_job_id(value: Any) -> str:
    """Return a job's id as FirecREST's paths take it.

    :param value: for example ``4711``, with or without blanks, or ``4711.pbs01``
    :returns: the number alone
    :raises InvalidJobId: it cannot be the id of a job; the message says what is needed
    """
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    if found := _ID.fullmatch(text):
        return found[1]
    if part := _PART.fullmatch(text):
        raise InvalidJobId(
            f"job_id: {text} is a part of job {part[1]}, and FirecREST knows only whole jobs. Give {part[1]}, which "
            "means all its parts, or use the scheduler's own command on the system."
        )
    if text in ("", "None", "none", "null"):
        raise InvalidJobId(
            "job_id: it is empty. What should give the id, for example the XCom of a task that submits the job, has "
            "given none."
        )
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    raise InvalidJobId(
        f"job_id: {shown!r} is not the id of a job, which is a number such as 4711, or 4711.pbs01 of PBS."
    )
