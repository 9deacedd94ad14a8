"""The elements of an array that run again, when the others are done."""

from __future__ import annotations

from dataclasses import replace

from firecrest_core.result import JobResult
from firecrest_core.spec import arrays
from firecrest_core.spec.jobspec import JobSpec

# Characters of indices. They are a part of what a link holds, which is a path of 4095 at most.
_MOST = 3000


def failed_elements(result: JobResult) -> str:
    """Return the indices of the elements that did not end COMPLETED, in Slurm's form.

    :param result: how an array ended
    :returns: an empty text if all have to run again: none has completed, or which ones is not known, as on PBS
    """
    failed = [group for group in result.groups if group.failed]
    indices, completed = str(result.failed_indices), len(failed) < len(result.groups)
    whole = all(len(group.indices) == group.count for group in failed)
    return indices if completed and whole and len(indices) <= _MOST else ""


def only_elements(spec: JobSpec, elements: str) -> JobSpec:
    """Return an array with some of its elements, of which as many run at a time as before.

    :param spec: the array
    :param elements: the indices, as :func:`failed_elements` returns them; empty for all
    """
    if not elements:
        return spec
    at_once = arrays.throttle(spec.array or spec.script_options().get("array") or elements)
    return replace(spec, array=f"{elements}%{at_once}" if at_once else elements)
