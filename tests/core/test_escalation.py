"""The escalation policy: what is refused, and what the next job gets."""

from __future__ import annotations

from typing import Any

import pytest

from firecrest_core.course import Course, EarlierJob
from firecrest_core.errors import InvalidJobSpec, JobFailed, JobOutOfMemory
from firecrest_core.escalation import Escalation, excluded_nodes
from firecrest_core.followup import Cause, FollowUp, Note, Stop
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

POLICY = {
    "out_of_memory": {"memory": "x2", "max": "480G"},
    "time_limit": {"time_limit": "x2", "max": "24:00:00"},
    "node_failure": {"exclude": "node", "max": 2},
    "preempted": "wait",
}


def spec(**fields: Any) -> JobSpec:
    asked = {"working_dir": "/wd", "script": "#!/bin/bash\ntrue\n", "memory": "32G", "time_limit": "4:00:00"}
    return JobSpec(**asked | fields)


def ended(state: JobState, nodes: str = "nid007") -> JobResult:
    return JobResult(job_id="57", system="rig", state=state, nodes=nodes)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("x2", "a mapping of causes"),
        ({}, "a mapping of causes"),
        ({"oom": {"memory": "x2", "max": "4G"}}, "'oom' is no cause; there are out_of_memory, time_limit"),
        ({"out_of_mem": {"memory": "x2", "max": "4G"}}, "'out_of_mem' is no cause; did you mean 'out_of_memory'"),
        ({"out_of_memory": {"mem": "x2", "max": "4G"}}, "out_of_memory: .*the form is {'memory': 'x2'"),
        ({"out_of_memory": {"memory": "x2"}}, "out_of_memory: .*the form is"),
        ({"out_of_memory": {"memory": "x2", "max": "4G", "gpus": 1}}, "out_of_memory: .*the form is"),
        ({"out_of_memory": "x2"}, "out_of_memory: 'x2'; the form is"),
        ({"out_of_memory": {"memory": "xtwo", "max": "480G"}}, "memory is 'xtwo'; give a factor above 1"),
        ({"out_of_memory": {"memory": "x1", "max": "480G"}}, "memory is 'x1'; give a factor above 1"),
        ({"out_of_memory": {"memory": 2, "max": "480G"}}, "memory is 2; give a factor"),
        ({"out_of_memory": {"memory": "+2X", "max": "480G"}}, "memory: '2X' is not an amount of memory"),
        ({"out_of_memory": {"memory": "+0G", "max": "480G"}}, "memory is '\\+0G'; give"),
        ({"out_of_memory": {"memory": "x2", "max": "much"}}, "max: 'much' is not an amount of memory"),
        ({"out_of_memory": {"memory": "x2", "max": 0}}, "max is 0, which is no bound"),
        ({"out_of_memory": {"memory": "x2", "max": None}}, "out_of_memory: max: "),
        ({"time_limit": {"time_limit": "x2", "max": "UNLIMITED"}}, "no bound"),
        ({"time_limit": {"time_limit": "x2", "max": "soon"}}, "max: 'soon' is not a time limit"),
        ({"node_failure": {"exclude": "rack", "max": 3}}, "node_failure: .*the form is"),
        ({"node_failure": {"exclude": "node"}}, "node_failure: .*the form is"),
        ({"node_failure": {"exclude": "node", "max": 0}}, "node_failure: .*the form is"),
        ({"node_failure": {"exclude": "node", "max": "often"}}, "node_failure: .*the form is"),
        ({"preempted": "run"}, "preempted: 'run'; the form is 'wait'"),
    ],
)
def test_a_wrong_policy_is_refused(policy: Any, words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^escalate: .*{words}"):
        Escalation.parse(policy)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"memory": "480G"}, "escalate: out_of_memory: max is 480G, and the job itself has 480G"),
        ({"time_limit": "2-00:00:00"}, "escalate: time_limit: max is 1-00:00:00, and the job itself has 2-00:00:00"),
        ({"memory": None}, "memory: missing; .*#SBATCH --mem"),
        ({"time_limit": None}, "time_limit: missing; .*#SBATCH --time"),
        ({"memory": 0}, "memory: 0M is all that there is"),
        ({"time_limit": "UNLIMITED"}, "time_limit: UNLIMITED is all"),
        ({"memory": None, "script": "#!/bin/bash\n#SBATCH --mem=lots\n"}, "script: its own --mem: 'lots'"),
    ],
)
def test_a_job_that_the_policy_does_not_fit_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=words):
        Escalation.parse(POLICY).check(spec(**fields))


def test_the_scripts_own_lines_count() -> None:
    job = spec(memory=None, time_limit=None, script="#!/bin/bash\n#SBATCH --mem 3G -t 90\n#SBATCH -x nid001\n")
    policy = Escalation.parse(POLICY)
    policy.check(job)
    assert policy.apply(job, Note(Cause.OUT_OF_MEMORY)).memory == "6G"
    assert policy.apply(job, Note(Cause.TIME_LIMIT)).time_limit == "03:00:00"
    assert excluded_nodes(policy.apply(job, Note(Cause.NODE_FAILURE, nodes="nid007"))) == "nid001,nid007"


def test_nodes_cannot_be_left_out_in_pbs() -> None:
    with pytest.raises(InvalidJobSpec, match="PBS cannot leave out nodes"):
        Escalation.parse(POLICY).check(spec(), "pbs")
    Escalation.parse({"node_failure": {"max": 3}}).check(spec(), "pbs")
    with pytest.raises(InvalidJobSpec, match="PBS does not tell which elements of an array have failed"):
        Escalation.parse({"node_failure": {"max": 3}}).check(spec(array="0-3"), "pbs")


def test_the_memory_doubles_up_to_its_bound() -> None:
    policy, job, had = Escalation.parse(POLICY), spec(), []
    while isinstance(following := policy.after(ended(JobState.OUT_OF_MEMORY), job, []), FollowUp):
        had.append((job.memory, following.reason))
        job = policy.apply(job, following.note)
    assert [memory for memory, _ in had] == ["32G", "64G", "128G", "256G"]
    assert had[0][1] == "Job 57 ended OUT_OF_MEMORY with a memory of 32G: the next job gets 64G."
    assert job.memory == "480G"
    assert following == Stop("Its memory of 480G is the most that escalate allows, so no other job follows.")


@pytest.mark.parametrize(
    ("growth", "own", "grown"),
    [("x1.5", "1G", "1536M"), ("+8G", "1G", "9G"), ("x2", "500M", "1000M"), ("x 1.001", "1M", "2M")],
)
def test_the_memory_grows_by_a_factor_or_a_step(growth: str, own: str, grown: str) -> None:
    policy = Escalation.parse({"out_of_memory": {"memory": growth, "max": "1T"}})
    assert policy.apply(spec(memory=own), Note(Cause.OUT_OF_MEMORY)).memory == grown


def test_nodes_that_failed_are_left_out() -> None:
    policy, job, notes = Escalation.parse(POLICY), spec(directives=["--exclusive", "--exclude=nid001"]), []
    for nodes in ("nid007", "nid[010-012]"):
        following = policy.after(ended(JobState.NODE_FAIL, nodes), job, notes)
        assert isinstance(following, FollowUp)
        assert following.reason.endswith(f"the next job runs without {nodes}.")
        notes.append(following.note)
        job = policy.apply(job, following.note)
    assert job.directives == ("--exclusive", "--exclude=nid001,nid007,nid[010-012]")
    assert isinstance(policy.after(ended(JobState.NODE_FAIL), job, notes), Stop)


def test_a_long_list_of_nodes_is_not_left_out() -> None:
    following = Escalation.parse(POLICY).after(ended(JobState.NODE_FAIL, "nid001," * 1000), spec(), [])
    assert isinstance(following, FollowUp)
    assert following.note.nodes == ""
    assert following.reason.endswith("the next job runs once more.")


def test_a_preempted_job_waits_as_often_as_it_must() -> None:
    policy, notes = Escalation.parse({"preempted": "wait"}), [Note(Cause.PREEMPTED)] * 100
    following = policy.after(ended(JobState.PREEMPTED), spec(), notes)
    assert isinstance(following, FollowUp)
    assert policy.apply(spec(), following.note) == spec()


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED, JobState.DEADLINE])
def test_what_a_person_has_to_look_at_is_left_alone(state: JobState) -> None:
    assert Escalation.parse(POLICY).after(ended(state), spec(), []) is None


@pytest.mark.parametrize("state", [JobState.OUT_OF_MEMORY, JobState.TIMEOUT, JobState.NODE_FAIL])
def test_a_cause_that_the_policy_does_not_name_is_left_alone(state: JobState) -> None:
    assert Escalation.parse({"preempted": "wait"}).after(ended(state), spec(), []) is None


@pytest.mark.parametrize("note", [Note(Cause.TIME_LIMIT), Note(Cause.NODE_FAILURE, nodes="nid[001-004,7],a/b=c")])
def test_a_note_is_the_name_of_a_file(note: Note) -> None:
    text = note.to_text()
    assert Note.parse(text) == note
    assert not set(text) & set("/'\" []")


@pytest.mark.parametrize("text", ["", "oom", "time_limit,walltime=3", "node_failure,nodes", "../claim"])
def test_what_is_no_note_is_none(text: str) -> None:
    assert Note.parse(text) in (None, Note(Cause.NODE_FAILURE))


def test_the_course_survives_as_json() -> None:
    course = Course(earlier_jobs=(EarlierJob("56", "time_limit"),), memory="4G", excluded_nodes="nid1", problem="No.")
    result = JobResult(job_id="57", system="rig", state=JobState.COMPLETED, course=course)
    assert JobResult.from_dict(result.to_dict()) == result
    assert not result.succeeded


def test_a_bound_that_is_reached_is_for_a_person_to_mend() -> None:
    course = Course(problem="Three nodes failed.")
    result = JobResult(job_id="57", system="rig", state=JobState.NODE_FAIL, course=course)
    error = JobFailed.kind(result.state)(result)
    assert (error.retryable, error.user_error) == (False, True)
    assert "Three nodes failed." in str(error)
    plain = JobOutOfMemory(ended(JobState.OUT_OF_MEMORY))
    assert (plain.retryable, plain.user_error) == (False, False)
