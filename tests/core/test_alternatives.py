"""Alternatives as people write them, and the jobs that they make."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.alternatives import Alternatives, check_beside, check_places
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.place import Place

JOB = JobSpec(working_dir="/wd", command="true", partition="normal", time_limit=60)


def test_each_shape_has_what_it_says_and_else_what_the_job_does() -> None:
    given = [{}, {"partition": "debug", "time_limit": timedelta(minutes=30)}, {"nodes": "2", "qos": ""}]
    shapes = Alternatives.parse(given)
    assert [(job.partition, job.time_limit, job.nodes, job.qos) for job in shapes.of(JOB)] == [
        ("normal", "01:00:00", None, None),
        ("debug", "00:30:00", None, None),
        ("normal", "01:00:00", 2, None),
    ]
    assert Alternatives.parse(shapes.to_list()) == shapes


def test_one_may_run_at_another_place() -> None:
    shapes = Alternatives.parse([{}, {"system": "eiger", "working_dir": "/scratch/run/", "partition": "debug"}])
    assert shapes.places == (None, Place("eiger", "/scratch/run"))
    assert [(job.working_dir, job.partition) for job in shapes.of(JOB)] == [
        ("/wd", "normal"),
        ("/scratch/run", "debug"),
    ]
    assert (shapes.are_elsewhere, Alternatives.parse([{}]).are_elsewhere) == (True, False)
    assert Alternatives.parse(shapes.to_list()) == shapes
    with pytest.raises(InvalidJobSpec, match="alternatives: 2: eiger, in /scratch/run, is where the job runs anyway"):
        check_places(shapes, "eiger", "/scratch/run")


def test_options_are_json() -> None:
    shapes = Alternatives.parse([{"directives": ["--exclusive"]}])
    assert shapes.to_list() == [{"directives": ["--exclusive"]}]
    assert Alternatives.parse(shapes.to_list()) == shapes


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "alternatives: a list of at least one alternative is needed"),
        ("normal", "alternatives: a list of at least one"),
        ({"partition": "normal"}, "alternatives: a list of at least one"),
        (["normal"], "alternatives: 1 is 'normal'; the form is"),
        (
            [{"partition": "normal"}, {"queue": "debug"}],
            "alternatives: 2: queue: a job has no such field; did you mean",
        ),
        ([{"command": "false"}], "alternatives: 1: command: all alternatives run the same"),
        ([{"script": "#!/bin/sh\n"}], "alternatives: 1: script: all alternatives run the same"),
        ([{"working_dir": "/other"}], "alternatives: 1: working_dir: all alternatives run the same"),
        ([{"array": "0-3"}], "alternatives: 1: array: all alternatives run the same"),
        ([{"time_limit": "soon"}], "alternatives: 1: time_limit: "),
        ([{"system": "eiger"}], "alternatives: 1: working_dir: None; .*an absolute path there"),
        ([{"system": "eiger", "working_dir": "run"}], "alternatives: 1: working_dir: 'run'; .*an absolute path there"),
        ([{"system": "../x", "working_dir": "/run"}], "alternatives: 1: system: "),
    ],
)
def test_what_cannot_be_right_is_told_with_its_number(given: Any, words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=words):
        Alternatives.parse(given)


def test_what_does_not_fit_the_job_is_told() -> None:
    with pytest.raises(InvalidJobSpec, match="alternatives: 2: gpus: 4 in all, but 2 nodes"):
        Alternatives.parse([{}, {"nodes": 2}]).of(JobSpec(working_dir="/wd", command="true", gpus=4, gpus_per_node=4))
    array = JobSpec(working_dir="/wd", script="#!/bin/sh\n#SBATCH --array=0-3\n")
    with pytest.raises(InvalidJobSpec, match="alternatives: the elements of an array"):
        Alternatives.parse([{}]).of(array)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"exactly_once": False}, "alternatives: .*leave exactly_once on"),
        ({"escalate": {}}, "escalate: .*alternatives are several"),
        ({"chain": {}}, "chain: .*alternatives are several"),
    ],
)
def test_what_they_cannot_be_beside_is_refused(beside: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=words):
        check_beside(**{"exactly_once": True, "escalate": None, "chain": None} | beside)
