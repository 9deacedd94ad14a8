"""The points of a sweep as job arrays."""

from __future__ import annotations

from collections import Counter

import pytest
from prefect import flow

from firecrest_core import Chain
from firecrest_core.errors import InvalidJobSpec, JobFailed
from firecrest_core.result import JobResult
from firecrest_core.spec import points
from firecrest_core.states import JobState
from prefect_firecrest import arun_array, run_array

COMMAND = 'echo "$SEED" > "seed-$SEED"; [ "$SEED" != "${BAD-}" ]'


def test_more_points_than_one_array_takes(make, workdir, tmp_path, mocker, requests: Counter[str]) -> None:
    mocker.patch.object(points.in_arrays, "__defaults__", (2,))
    results = run_array(
        make(COMMAND), over=[{"SEED": number} for number in range(3)], outputs={"seed-*": f"{tmp_path}/{{number}}/"}
    )
    assert [len(result.elements) for result in results] == [1, 2]
    assert all(result.succeeded for result in results)
    assert {file.name for file in workdir.glob("seed-*")} == {"seed-0", "seed-1", "seed-2"}
    assert requests["POST jobs"] == 2


async def test_an_element_that_fails_is_named(make, workdir) -> None:
    job = make(COMMAND, environment={"BAD": "1"})
    with pytest.RaisesGroup(pytest.RaisesExc(JobFailed, match=r"2 of 3 array elements COMPLETED, 1 FAILED \(1\)")):
        await arun_array(job, over=[{"SEED": number} for number in range(3)])


CHAIN = Chain(max_jobs=5, signal="B:USR1@60", done="run-%a/done", checkpoint="run-%a/ckpt/*")
# Each element takes as many jobs as its point says. One of the number 9 fails until it is mended.
LINK = """mkdir -p run-$SLURM_ARRAY_TASK_ID/ckpt; cd run-$SLURM_ARRAY_TASK_ID; echo >> jobs
[ $JOBS != 9 ] || [ -e ../mended ] || { touch ../mended; exit 1; }
touch ckpt/$(wc -l < jobs); [ $(wc -l < jobs) -lt $JOBS ] || touch done
[ $JOBS != 9 ] || touch done
"""


def test_each_element_is_a_chain(make, workdir, mocker) -> None:
    mocker.patch("firecrest_core.campaign.CACHED", 0.0)
    job = make(LINK, chain=CHAIN, time_limit=60)
    points = [{"JOBS": number} for number in (1, 2, 3, 9)]
    with pytest.RaisesGroup(
        pytest.RaisesExc(JobFailed, match=r"3 of 4 array elements COMPLETED, 1 FAILED \(3\)")
    ) as failed:
        run_array(job, over=points)
    [error] = failed.value.exceptions
    assert error.result.course.retry_helps
    assert "Element 3 of job" in str(error)
    assert [(workdir / f"run-{index}" / "jobs").read_text() for index in range(4)] == ["\n", "\n\n", "\n\n\n", "\n"]


def test_a_retry_runs_the_element_that_failed(make, workdir, mocker) -> None:
    mocker.patch("firecrest_core.campaign.CACHED", 0.0)

    @flow(retries=1)
    def trained() -> list[JobResult]:
        return run_array(make(LINK, chain=CHAIN, time_limit=60), over=[{"JOBS": number} for number in (2, 9)])

    [result] = trained()
    assert result.element_counts == {JobState.COMPLETED: 2}
    assert [(workdir / f"run-{index}" / "jobs").read_text() for index in range(2)] == ["\n\n", "\n\n"]


def test_a_chain_needs_an_index_in_its_paths(make) -> None:
    chain = Chain(max_jobs=5, signal="B:USR1@60", done="done", checkpoint="ckpt/*")
    with pytest.raises(InvalidJobSpec, match="^chain: done is 'done', and each element of an array needs its own"):
        run_array(make(LINK, chain=chain), over=[{"JOBS": 1}])
    with pytest.raises(InvalidJobSpec, match="^chain: these points are several arrays"):
        run_array(make(LINK, chain=CHAIN), over=[{"JOBS": 1}] * 1001)


@pytest.mark.parametrize("over", [[], {"SEED": 1}, [{"a b": 1}]])
def test_points_that_cannot_be_right(make, over) -> None:
    with pytest.raises(InvalidJobSpec, match="^over: "):
        run_array(make(COMMAND), over=over)
