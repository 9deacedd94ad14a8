"""The points of a sweep as job arrays."""

from __future__ import annotations

from collections import Counter

import pytest

from firecrest_core.errors import InvalidJobSpec, JobFailed
from firecrest_core.spec import points
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


@pytest.mark.parametrize("over", [[], {"SEED": 1}, [{"a b": 1}]])
def test_points_that_cannot_be_right(make, over) -> None:
    with pytest.raises(InvalidJobSpec, match="^over: "):
        run_array(make(COMMAND), over=over)
