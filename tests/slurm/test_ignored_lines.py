"""What a real sbatch does with the lines that the core warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrest_core.spec.ignored_lines import ignored_lines
from harness.errors import ServiceFailed
from harness.slurm import Slurm

FOLLOWED = [
    "#SBATCH --job-name=asked", "# why\n\n#SBATCH -J asked # here", "#SBATCH --job-name='asked' --comment='a b'",
    "#SBATCH\t--job-name asked", "#PBS -N asked",
]  # fmt: skip
IN_VAIN = [
    "true\n#SBATCH --job-name=asked", "# SBATCH --job-name=asked", "  #SBATCH --job-name=asked",
    "#sbatch --job-name=asked", "#SBATCH --job-name=asked word", "#SBATCH job-name=asked", "#SBATCH --job-name = asked",
]  # fmt: skip


@pytest.mark.parametrize("head", FOLLOWED + IN_VAIN)
def test_a_line_in_vain(slurm: Slurm, tmp_path: Path, head: str) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\n{head}\ntrue\n")
    try:
        job_id = slurm.command("sbatch", "--parsable", "--hold", f"--chdir={tmp_path}", str(script)).strip()
    except ServiceFailed:
        followed = False
    else:
        followed = "JobName=asked " in slurm.command("scontrol", "--oneliner", "show", "job", job_id)
        slurm.command("scancel", job_id)
    assert followed == (head in FOLLOWED)
    assert bool(ignored_lines(script.read_text())) == (head in IN_VAIN)
