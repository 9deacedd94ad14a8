"""A dry run: the script that would be submitted, and what the site would say of it."""

from __future__ import annotations

from typing import Any

import pytest

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.campaign import Campaign
from firecrest_core.connection import Connection
from firecrest_core.dry_run import DryRun, dry_run
from firecrest_core.spec.jobspec import JobSpec
from firecrest_local import LocalFirecREST


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    return Connection.from_environment(f7t.environ)


async def tried(connection: Connection, makes_working_dir: bool = False, **fields: Any) -> DryRun:
    async with FirecRESTClient(connection) as client:
        return await dry_run(Campaign(client.system(), JobSpec(**fields)), makes_working_dir=makes_working_dir)


async def test_the_script_and_nothing_else(connection, workdir, requests) -> None:
    script = "#!/bin/bash\n#SBATCH --nodes=1\necho hello\n"
    found = await tried(
        connection, working_dir=str(workdir), script=script, name="relax", environment={"A": "1", "HF_TOKEN": "hidden"}
    )
    assert found.name == "relax"
    assert found.problems == ()
    found.raise_for_problems()
    assert found.script.splitlines() == [
        "#!/bin/bash",
        "#SBATCH --nodes=1",
        "#SBATCH --job-name=relax",
        f"#SBATCH --chdir={workdir}",
        "#SBATCH --no-requeue",
        "# HF_TOKEN comes from a file that only its owner may read",
        "export A=1",
        "echo hello",
    ]
    assert "hidden" not in repr(found)
    assert not [kind for kind in requests if kind.startswith("POST jobs")]
    assert not (workdir / ".firecrest").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"partition": "normale"}, "partition: there is no 'normale'; did you mean 'normal'?"),
        ({"partition": "gpu"}, "partition: there is no 'gpu'; there are normal, debug."),
        ({"partition": "normal", "nodes": 2}, "partition: normal has 1 of the 2 nodes."),
        ({"account": "nobody"}, "account: there is no 'nobody'; "),
        ({"script": "#!/bin/bash\n#SBATCH -A nobody -p gpu\n", "command": None}, "account: there is no 'nobody'; "),
        ({"working_dir": "/no/such/place"}, "/no/such/place"),
    ],
)
async def test_what_the_site_would_say(connection, workdir, fields, problem) -> None:
    found = await tried(connection, **{"working_dir": str(workdir), "command": "true"} | fields)
    assert problem in found.problems[0]
    with pytest.raises(errors.SubmissionRejected, match="^Dry run of job on .*: it could not run. "):
        found.raise_for_problems()


async def test_a_directory_that_would_be_made_is_no_problem(connection, workdir) -> None:
    found = await tried(connection, working_dir=str(workdir / "new"), command="true", makes_working_dir=True)
    assert not found.problems


async def test_a_script_on_the_system(connection, workdir) -> None:
    (workdir / "job.sh").write_text("#!/bin/bash\n#SBATCH -p debug\necho there\n")
    found = await tried(connection, working_dir=str(workdir), script_path=str(workdir / "job.sh"))
    assert found.script.endswith("echo there")
    assert not found.problems


async def test_auto(connection, workdir) -> None:
    found = await tried(connection, working_dir=str(workdir), command="true", partition="auto")
    assert "#SBATCH --partition=normal,debug" in found.script
