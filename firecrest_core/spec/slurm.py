"""A job specification as ``#SBATCH`` lines.

Facts: Slurm's sbatch manual, tried with sbatch 22.05; for ``uenv`` and ``container`` the documentation of CSCS's Slurm
plugins (``--uenv``, ``--view``, ``--environment``).
"""

from __future__ import annotations

from collections.abc import Mapping

from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.options import SLURM_OPTIONS, quote, with_prefix


def may_run_again(spec: JobSpec, own: Mapping[str, str]) -> bool:
    """Tell whether the scheduler may run the job a second time, because the user has asked for it.

    :param spec: the job
    :param own: the options that the script's own lines set
    """
    return bool(spec.requeue) or (spec.requeue is None and "requeue" in own)


def directives(spec: JobSpec, own: Mapping[str, str]) -> list[str]:
    """Return the ``#SBATCH`` lines of a specification.

    :param spec: the job
    :param own: the options that the script's own lines set; a ``--requeue`` there counts as asked for
    """
    lines = []
    for field, option in SLURM_OPTIONS.items():
        value = getattr(spec, field)
        if value is None or (field == "container" and not spec.is_script_in_container):
            continue
        if field == "uenv":
            image, _, views = value.partition(" --view=")
            lines.append(f"#SBATCH --uenv={quote(image)}" + (f" --view={quote(views)}" if views else ""))
        else:
            lines.append(f"#SBATCH --{option}={quote(str(value))}")
    if may_run_again(spec, own):
        lines.append("#SBATCH --requeue")
    else:
        # Most sites requeue by default. A payload must not run a second time unless the user asked for it.
        lines.append("#SBATCH --no-requeue")
    lines += [with_prefix(directive, "#SBATCH") for directive in spec.directives]
    return lines
