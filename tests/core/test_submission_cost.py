"""A first submission reads its script once and binds its claim once, whatever asks for either."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

from pytest_mock import MockerFixture

from firecrest_core import lifecycle
from firecrest_core.api.client import System
from firecrest_core.claims import bound_submission
from firecrest_core.indices import Indices
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec import options, script
from firecrest_core.spec.jobspec import JobSpec

SCRIPT = "#!/bin/bash\n#SBATCH --job-name=relax --output=%x-%j.out\n#SBATCH --array=0-3\nsrun relax\n"


async def test_a_script_is_read_once_and_bound_once(mocker: MockerFixture) -> None:
    system: Any = AsyncMock(spec=System)
    system.name, system.submit_job.return_value = "rig", "57"
    system.scheduler.return_value, system.has_directory.return_value = "slurm", True
    system.get_job_metadata.return_value = mocker.Mock(stdout="", stderr="")
    options.script_options.cache_clear()
    script._head.cache_clear()
    bind = mocker.spy(bound_submission, "prologue")

    spec = JobSpec(working_dir="/wd", script=SCRIPT)
    job = await lifecycle.submit(system, spec, ClaimKey("task"), first_attempt=True)

    assert (job.job_id, job.name, job.array_indices) == ("57", "relax", Indices.parse("0-3"))
    assert script._head.cache_info().misses == 1
    assert options.script_options.cache_info().misses == 1
    assert bind.call_count == 1
