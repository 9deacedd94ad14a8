"""Lines that look like directives and that the scheduler does not follow."""

from __future__ import annotations

import pytest

from firecrest_core.spec.ignored_lines import ignored_lines
from firecrest_core.spec.jobspec import JobSpec


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true\n#SBATCH --nodes=2\n", ["line 3, '#SBATCH --nodes=2'", "behind the first command"]),
        ("set -e\n#PBS -l walltime=1:00\n", ["line 3", "behind the first command"]),
        ("# SBATCH --nodes=2\n", ["line 2", "begins with #SBATCH at the very beginning"]),
        ("  #SBATCH --nodes=2\ntrue\n", ["line 2", "at the very beginning"]),
        ("#sbatch --nodes=2\n", ["line 2", "begins with #SBATCH"]),
        ("# PBS -N x\n", ["line 2", "begins with #PBS"]),
        ("#SBATCH --job-name=two words\n", ["line 2", "'words' belongs to no option", "quotes"]),
        ("#SBATCH -J two words --nodes=2\n", ["'words'"]),
        ("#SBATCH --job-name = x\n", ["'x'"]),
        ("#SBATCH nodes=2\n", ["'nodes=2'"]),
        ("#SBATCH –nodes=2\n", ["'–nodes=2'"]),  # as text processors write it
    ],
)
def test_a_line_in_vain(script, words):
    [problem] = JobSpec(script="#!/bin/bash\n" + script).ignored_lines()
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    "script",
    [
        "#SBATCH --nodes=2\n#SBATCH --exclusive user\n\n# why\n#SBATCH -J name -N2 # two\ntrue\n",
        "#SBATCH --job-name='two words' --comment=\"a b\"\n",
        "#SBATCH -J 'two words'\n#SBATCH --array 0-3\n#SBATCH -HQ\n",
        "##SBATCH --nodes=2\n# sbatch options follow\n# SBATCH lines are read up to the first command\n",
        "#SBATCH hetjob\n#SBATCH --nodes=2\n",
        "#PBS -l select=2 -l walltime=1:00:00\n",
        "cat > other.sh <<'EOF'\n#!/bin/bash\n#SBATCH --nodes=1\nEOF\nsbatch other.sh\n",
        "#SBATCH --comment='open\n",
    ],
)
def test_no_warning(script):
    assert ignored_lines("#!/bin/bash\n" + script) == []


def test_only_scripts_have_lines():
    assert JobSpec(command="true\n#SBATCH --nodes=2").ignored_lines() == []
