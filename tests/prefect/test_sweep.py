"""Many jobs with their files in one flow run."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest

from firecrest_core.errors import ConfigurationError, InvalidFileName, JobFailed, SubmissionRejected
from prefect_firecrest import arun_jobs, run_jobs


def test_each_job_has_its_files(make, workdir, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("4")
    jobs = [
        make(f"cat in.txt > out.txt; echo {number} >> out.txt", working_dir=f"{workdir}/{number}", name=f"p{number}")
        for number in range(3)
    ]
    results = run_jobs(
        jobs,
        local_files=[str(tmp_path / "in.txt")],
        remote_files=["out.*"],
        local_directory=f"{tmp_path}/results/{{name}}",
    )
    assert [result.fetched for result in results] == [(f"{tmp_path}/results/p{number}/out.txt",) for number in range(3)]
    assert [(tmp_path / f"results/p{number}/out.txt").read_text() for number in range(3)] == ["40\n", "41\n", "42\n"]


async def test_coroutines_share_one_copy_in_one_directory(make, workdir, tmp_path, requests: Counter[str]) -> None:
    (tmp_path / "in.txt").write_text("4")
    jobs = [make(f"cat in.txt; exit {number - number}", environment={"N": str(number)}) for number in range(3)]
    results = await arun_jobs(
        jobs,
        local_files=[str(tmp_path / "in.txt")],
        remote_files=["slurm-{job_id}.out"],
        local_directory=f"{tmp_path}/{{number}}",
    )
    assert all(result.succeeded for result in results)
    assert [len(list((tmp_path / str(number)).iterdir())) for number in range(3)] == [1, 1, 1]
    assert requests["POST upload"] == 1


def test_a_job_that_fails_keeps_none_of_the_others(make, workdir, tmp_path) -> None:
    jobs = [make("exit 3", name="bad"), make("echo 1 > good", name="good"), make("true", name="lost", partition="no")]
    with pytest.RaisesGroup(JobFailed, SubmissionRejected, match="2 of 3 jobs failed: bad, lost"):
        run_jobs(jobs, remote_files=["good"], local_directory=f"{tmp_path}/{{name}}")
    assert (tmp_path / "good" / "good").read_text() == "1\n"


def test_files_of_two_jobs_in_one_place_are_refused_before_the_first(make, workdir, tmp_path) -> None:
    jobs = [make(f"touch out {number}") for number in range(2)]
    with pytest.raises(InvalidFileName, match=r"2 jobs would go to .*results\. Put \{number\} into it"):
        run_jobs(jobs, remote_files=["out"], local_directory=f"{tmp_path}/results")
    assert list(workdir.iterdir()) == []


def test_inputs_and_outputs_of_each_job(make, workdir, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("4")
    jobs = [
        make(
            f"cat renamed > out.txt; echo {number} >> out.txt; exit {3 if number == 1 else 0}",
            working_dir=f"{workdir}/{number}",
            make_working_dir=True,
            name=f"p{number}",
        )
        for number in range(3)
    ]
    files = {
        "inputs": {str(tmp_path / "in.txt"): "renamed"},
        "outputs": {"out.txt": f"{tmp_path}/{{name}}-{{number}}.txt", "slurm-{job_id}.out": f"{tmp_path}/logs/"},
    }
    with pytest.RaisesGroup(JobFailed):
        run_jobs(jobs, **files)
    assert [(tmp_path / f"p{number}-{number}.txt").read_text() for number in range(3)] == ["40\n", "41\n", "42\n"]
    assert len(list((tmp_path / "logs").iterdir())) == 3
    [result] = run_jobs(jobs[:1], remote_files=["renamed"], local_directory=str(tmp_path), **files)
    log = f"{tmp_path}/logs/slurm-{result.job_id}.out"
    assert result.fetched == (f"{tmp_path}/p0-0.txt", log, f"{tmp_path}/renamed")


@pytest.mark.parametrize("target", ["out.txt", "{name}.txt", "results/"], ids=["file", "name", "directory"])
@pytest.mark.parametrize("source", ["out.txt", "out*"], ids=["path", "pattern"])
def test_outputs_of_two_jobs_in_one_place_are_refused_before_the_first(make, workdir, tmp_path, source, target) -> None:
    jobs = [make(f"echo {number} > out.txt", name="point") for number in range(2)]
    with pytest.raises(InvalidFileName, match=r"^outputs: the files of 2 jobs would go to .* Put \{number\} into it"):
        run_jobs(jobs, outputs={source: f"{tmp_path}/{target}"})
    assert list(workdir.iterdir()) == []


def test_no_jobs() -> None:
    assert run_jobs([]) == []


def test_a_suspension_takes_a_deployment(make, workdir) -> None:
    with pytest.raises(ConfigurationError, match="no deployment"):
        run_jobs([make("true")], wait="suspend")
    assert list(workdir.iterdir()) == []


def test_twins_take_the_same() -> None:
    assert inspect.signature(run_jobs.fn) == inspect.signature(arun_jobs.fn)
