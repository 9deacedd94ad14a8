"""How submissions are parsed: options, times, arrays, dependencies, file names."""

from __future__ import annotations

import time
from typing import Any

import pytest

from firecrest_local.errors import SchedulerError
from firecrest_local.scheduler.jobs.arrays import format_indices, parse_array
from firecrest_local.scheduler.jobs.dependencies import Dependency, parse_dependencies
from firecrest_local.scheduler.jobs.directives import parse_directives
from firecrest_local.scheduler.jobs.durations import parse_begin, parse_duration
from firecrest_local.scheduler.jobs.job import Job, expand_pattern


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("--job-name=a", {"job-name": "a"}),
        ("--job-name a", {"job-name": "a"}),
        ("-J a", {"job-name": "a"}),
        ("-Ja", {"job-name": "a"}),
        ('--comment="two words" -N 2', {"comment": "two words", "nodes": "2"}),
        ("--hold # not --nodes=3", {"hold": ""}),
        ("-H -n4", {"hold": "", "ntasks": "4"}),
        ("--exclusive --time=1", {"exclusive": "", "time": "1"}),
        ("--exclusive=user", {"exclusive": "user"}),
        ("--dep=afterok:1", {"dependency": "afterok:1"}),
        ("--kill-on-invalid-dep=yes", {"kill-on-invalid-dep": "yes"}),
    ],
)
def test_option(line: str, options: dict[str, str]) -> None:
    assert parse_directives(f"#!/bin/sh\n#SBATCH {line}\ntrue\n") == options


def test_options_end_at_the_first_command_and_the_last_wins() -> None:
    script = "#!/bin/sh\n\n# remark\n#SBATCH -N1\n##SBATCH -N7\n#SBATCH -N2\ntrue\n#SBATCH -N3\n"
    assert parse_directives(script) == {"nodes": "2"}


@pytest.mark.parametrize("line", ["--nonsense", "-?", "--time", "--n=1", "--job-name='a"])
def test_option_that_sbatch_refuses(line: str) -> None:
    with pytest.raises(SchedulerError):
        parse_directives(f"#!/bin/sh\n#SBATCH {line}\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300),
        ("0:10", 10),
        ("2:30", 150),
        ("1:00:00", 3600),
        ("1-0", 86400),
        ("1-2:03", 86400 + 2 * 3600 + 180),
        ("99-0", 99 * 86400),
        ("0-00:15:00", 900),
        ("UNLIMITED", None),
    ],
)
def test_duration(text: str, seconds: int | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "1.5"])
def test_duration_that_slurm_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_begin() -> None:
    now = time.time()
    assert parse_begin("now+2hours", now) == now + 7200
    assert parse_begin("now+60", now) == now + 60
    assert 0 <= parse_begin(time.strftime("%H:%M", time.localtime(now + 120)), now) - now <= 120
    with pytest.raises(ValueError, match="fortnight"):
        parse_begin("now+1fortnight", now)


@pytest.mark.parametrize(
    ("text", "indices", "throttle", "step"),
    [
        ("0-3", (0, 1, 2, 3), None, 1),
        ("1,5,9", (1, 5, 9), None, 1),
        ("0-15:4", (0, 4, 8, 12), None, 4),
        ("0-99%10", tuple(range(100)), 10, 1),
        ("7", (7,), None, 1),
        ("3,1-2,2", (1, 2, 3), None, 1),
    ],
)
def test_array(text: str, indices: tuple[int, ...], throttle: int | None, step: int) -> None:
    spec = parse_array(text, 1001)
    assert (spec.indices, spec.throttle, spec.step) == (indices, throttle, step)


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-1001", "0-3%", "0-9:0", "1,,2"])
def test_array_that_slurm_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|range"):
        parse_array(text, 1001)


def test_pending_elements_are_written_as_ranges() -> None:
    assert format_indices([2, 3], 2) == "2-3%2"
    assert format_indices([9, 1, 2, 3, 5], None) == "1-3,5,9"


def test_dependencies() -> None:
    parsed = parse_dependencies("afterok:1:2_3,singleton")
    assert parsed.conditions == (
        Dependency("afterok", 1),
        Dependency("afterok", 2, 3),
        Dependency("singleton"),
    )
    assert not parsed.any_of
    assert parse_dependencies("afterok:1?afterany:2").any_of
    for wrong in ("afterok", "sometime:1", "afterok:x", "afterok:1?a,b"):
        with pytest.raises(ValueError, match=r"not|both"):
            parse_dependencies(wrong)


def make_job(**fields: Any) -> Job:
    defaults: dict[str, Any] = {
        "id": 12,
        "name": "relax",
        "user": "ada",
        "account": "test",
        "partition": "normal",
        "working_dir": "/w",
        "script": "#!/bin/sh\n",
        "standard_input": "/dev/null",
        "standard_output": "/w/out",
        "standard_error": "/w/out",
        "environment": {},
        "submitted": 1.0,
    }
    return Job(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("slurm-%j.out", "slurm-12.out"),
        ("%x-%u-%N-%%j", "relax-ada-nid001-%j"),
        ("%6j", "000012"),
        ("%A", "12"),
        ("%z", "%z"),
    ],
)
def test_file_name_pattern(pattern: str, name: str) -> None:
    assert expand_pattern(pattern, make_job(), "nid001") == name


def test_file_name_pattern_of_an_array() -> None:
    assert expand_pattern("%A_%a-%j", make_job(id=14, array_id=12, task_id=3), "nid001") == "12_3-14"


def test_job_survives_the_store() -> None:
    job = make_job(array_id=9, task_id=1, task_ids=(0, 1), dependencies=parse_dependencies("afterok:1"))
    assert Job.from_json(job.to_json()) == job
