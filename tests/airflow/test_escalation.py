"""A task whose job is followed by others, as its escalation policy or its chain says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.module_loading import import_string

from airflow_provider_firecrest.job_metrics import METRICS_KEY
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, FOLLOWED_KEY, SNAPSHOT_KEY
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core import Chain
from firecrest_core.campaign import Campaign
from firecrest_core.errors import InvalidJobSpec, JobFailed, JobNodeFailure
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.metrics import Metrics
from firecrest_core.states import JobState

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])

# The parent of a script is what stands for the daemon of its node.
SCRIPT = """#!/bin/bash
echo $SLURM_JOB_ID >> jobs
if [ $(wc -l < jobs) -lt {enough} ]; then kill -9 $PPID; exit; fi
"""
POLICY = {"node_failure": {"exclude": "node", "max": 2}, "time_limit": {"time_limit": "x2", "max": 60}}


@pytest.fixture(autouse=True)
def _no_grace(pushed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has lost its node does not come back, and no file is seen late."""
    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.0)
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 0.0)


@pytest.fixture
def make(connected: Any, workdir: Path) -> Callable[..., Callable[[], FirecRESTSubmitOperator]]:
    def make(enough: int, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
        arguments = {"escalate": POLICY, "time_limit": 30, "poll_interval": 0.2} | more
        script = SCRIPT.replace("{enough}", str(enough))
        return lambda: FirecRESTSubmitOperator(task_id="job", script=script, working_dir=str(workdir), **arguments)

    return make


def jobs_in(workdir: Path) -> list[str]:
    return (workdir / "jobs").read_text().split()


@both_ways
def test_jobs_follow_within_one_try(make, workdir, run_task, ti, pushed, task_log, deferrable) -> None:
    run = run_task(make(enough=3, deferrable=deferrable))
    first, second, last = jobs_in(workdir)
    course = run.result["course"]
    assert (run.result["state"], run.result["job_id"]) == ("COMPLETED", last)
    assert course["earlier_jobs"] == [
        {"job_id": first, "cause": "node_failure"},
        {"job_id": second, "cause": "node_failure"},
    ]
    assert (course["time_limit"], course["excluded_nodes"]) == ("00:30:00", "nid001")
    assert (pushed if deferrable else ti.pushed)["job_id"] == last
    log = task_log()
    for job_id in (first, second):
        assert f"Job {job_id} ended NODE_FAIL: the next job runs without nid001." in log
    assert [line["job_id"] for line in ti.state_store.get("firecrest_ended")] == [first, second, last]
    assert len(run.deferrals) == deferrable


@both_ways
def test_a_bound_fails_the_task_without_a_retry(make, workdir, run_task, deferrable) -> None:
    with pytest.raises(JobNodeFailure, match="Before it, 2 jobs have lost a node") as failed:
        run_task(make(enough=9, deferrable=deferrable))
    assert isinstance(failed.value, AirflowFailException)
    assert len(jobs_in(workdir)) == 3


CHAIN = Chain(max_jobs=5, signal="USR1@60", done="done", checkpoint="ckpt/*")
WORK = """#!/bin/bash
mkdir -p ckpt; echo $SLURM_JOB_ID >> jobs; touch ckpt/$SLURM_JOB_ID
[ $(wc -l < jobs) -lt 3 ] || touch done
"""


@pytest.fixture
def chained(connected: Any, workdir: Path) -> Callable[..., Callable[[], FirecRESTSubmitOperator]]:
    def chained(script: str, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
        return lambda: FirecRESTSubmitOperator(
            task_id="job", script=script, working_dir=str(workdir), chain=CHAIN, poll_interval=0.2, **more
        )

    return chained


@both_ways
def test_a_chain_goes_on_from_its_checkpoints(chained, workdir, run_task, task_log, deferrable) -> None:
    run = run_task(chained(WORK, deferrable=deferrable))
    _, second, last = jobs_in(workdir)
    assert (run.result["state"], run.result["job_id"]) == ("COMPLETED", last)
    assert [job["cause"] for job in run.result["course"]["earlier_jobs"]] == ["chain", "chain"]
    assert f"Job {second} ended COMPLETED and has left {second}: the next job, 3 of at most 5, goes on" in task_log()


@both_ways
def test_the_next_job_of_a_chain_waits_while_one_runs(
    connected, workdir, run_task, task_log, monkeypatch, deferrable
) -> None:
    submit_ahead = Campaign._submit_ahead

    async def told(campaign: Campaign, key: Any, on_message: Any) -> None:
        await submit_ahead(campaign, key, on_message)
        (workdir / f"ahead-{key.generation + 1}").touch()

    monkeypatch.setattr(Campaign, "_submit_ahead", told)
    script = WORK + "until [ -e ahead-$(wc -l < jobs) ]; do sleep 0.1; done\n"
    chain = CHAIN.to_dict() | {"ahead": True}
    run = run_task(
        lambda: FirecRESTSubmitOperator(
            task_id="job",
            script=script,
            working_dir=str(workdir),
            chain=chain,
            time_limit=10,
            poll_interval=0.2,
            deferrable=deferrable,
        )
    )
    jobs = jobs_in(workdir)
    assert (run.result["state"], run.result["job_id"]) == ("COMPLETED", jobs[2])
    ahead = list(dict.fromkeys(re.findall(r"Job (\d+) waits in the queue already", task_log())))
    assert ahead[:2] == jobs[1:]
    assert len(ahead) == 3


@both_ways
def test_the_log_has_the_last_output_of_each_job_before_the_next_one_follows(
    chained, workdir, run_task, task_log, deferrable
) -> None:
    """A job may end before its output was looked at for the first time."""
    script = WORK + 'echo "job $SLURM_JOB_ID was here"; echo "why it ended" >&2\n'
    run_task(chained(script, stderr="err-%j.txt", deferrable=deferrable))
    log = task_log()
    for number, job_id in enumerate(jobs_in(workdir)[:2], 2):
        line = f"out | job {job_id} was here"
        assert log.count(line) == 1, log
        assert log.index(line) < log.index(f"the next job, {number} of at most 5")
    assert log.count("err | why it ended") == 2


@both_ways
def test_each_job_of_a_chain_keeps_its_history_and_its_last_metrics(
    chained, workdir, run_task, ti, monkeypatch, deferrable
) -> None:
    """What it has measured since the last look as well, before the next one goes on with the same file."""

    async def push(instance: Any, key: str, value: Any) -> None:
        ti.pushed[key] = value

    monkeypatch.setattr("airflow_provider_firecrest.newest_xcom.push_xcom", push)
    monkeypatch.setattr("airflow_provider_firecrest.job_snapshots.push_xcom", push)
    script = WORK + """echo '{"step": '$(wc -l < jobs)', "loss": 0.5}' >> metrics.jsonl\n"""
    run_task(chained(script, metrics="metrics.jsonl", deferrable=deferrable))
    *earlier, last = jobs_in(workdir)
    for number, job_id in enumerate(earlier, 1):
        shown = JobSnapshot.from_dict(ti.pushed[f"{FOLLOWED_KEY}{job_id}"])
        assert (shown.state, shown.metrics) == (JobState.COMPLETED, f"loss 0.5 (step {number})")
        assert any("the next job" in line.text for line in shown.history)
        series = Metrics.from_dict(ti.pushed[f"{METRICS_KEY}.{job_id}"]).series
        assert [step for step, _ in series["loss"].points] == list(range(1, number + 1))
    kept = [(one["job_id"], one["metrics"]) for one in ti.state_store.get(ENDED_KEY)]
    assert kept[:2] == [(earlier[0], "loss 0.5 (step 1)"), (earlier[1], "loss 0.5 (step 2)")]
    assert ti.pushed[SNAPSHOT_KEY]["job_id"] == last
    assert f"{FOLLOWED_KEY}{last}" not in ti.pushed


def test_the_output_of_jobs_that_are_followed_is_not_shown_if_it_is_not_wanted(chained, run_task, task_log) -> None:
    run_task(chained(WORK + "echo here\n", live_output=False))
    assert "out | here" not in task_log()


def test_a_chain_without_progress_fails_the_task_without_a_retry(chained, workdir, run_task) -> None:
    with pytest.raises(JobFailed, match="done is not there yet, and it has left no new checkpoint") as failed:
        run_task(chained("#!/bin/bash\necho $SLURM_JOB_ID >> jobs\n"))
    assert isinstance(failed.value, AirflowFailException)
    assert len(jobs_in(workdir)) == 1


def test_a_triggerer_that_is_restarted_goes_on_with_the_last_job(make, workdir, ti, first_event) -> None:
    context = {"ti": ti, "task_state_store": ti.state_store}
    with pytest.raises(TaskDeferred) as deferred:
        make(enough=2)().execute(context)
    path, arguments = json.loads(json.dumps(deferred.value.trigger.serialize()))
    for _ in range(2):  # the second one begins with the same arguments
        trigger = import_string(path)(**arguments)
        trigger.task_instance = ti
        event = asyncio.run(first_event(trigger))
        assert event["result"]["job_id"] == event["jobs"][0]["job_id"] == jobs_in(workdir)[-1]
    assert len(jobs_in(workdir)) == 2
    kwargs = {"event": event, **deferred.value.kwargs}
    result = make(enough=2)().resume_execution("execute_complete", kwargs, context)
    assert [job["cause"] for job in result["course"]["earlier_jobs"]] == ["node_failure"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"escalate": {"oom": {}}}, "escalate: 'oom' is no cause"),
        ({"escalate": {"out_of_memory": {"memory": "xtwo", "max": "4G"}}}, "escalate: out_of_memory: memory is 'xtwo'"),
        ({"memory": "8G", "escalate": {"out_of_memory": {"memory": "x2", "max": "4G"}}}, "max is 4G, and the job"),
        ({"escalate": {"out_of_memory": {"memory": "x2", "max": "4G"}}}, "memory: missing"),
        ({"exactly_once": False, "escalate": POLICY}, "escalate: .*leave exactly_once on"),
        ({"chain": {"max_jobs": 3}}, "chain: .*the form is Chain"),
        ({"chain": CHAIN, "array": "0-3"}, "chain: done is .* put %a there for its index"),
        ({"chain": CHAIN, "signal": "TERM@60"}, "chain: signal is 'USR1@60', and that of the job"),
        ({"exactly_once": False, "chain": CHAIN}, "chain: .*leave exactly_once on"),
    ],
)
def test_what_cannot_be_right_is_refused_while_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with DAG("d", schedule=None), pytest.raises(InvalidJobSpec, match=words):
        FirecRESTSubmitOperator(task_id="job", command="true", working_dir="/wd", **{"time_limit": 30} | arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "true", "time_limit": "{{ params.limit }}"},
        {"script": "job.sh"},
        {"script": "{{ params.script }}"},
        {"script_path": "/wd/job.sh"},
        {"script": "#!/bin/bash\n#SBATCH -t 30\necho {{ ds }}\n", "time_limit": 30},
        {"job": "{{ params.job }}", "render_template_as_native_obj": True},
    ],
)
def test_what_is_not_known_yet_is_not_refused(arguments: dict[str, Any]) -> None:
    dag = {"render_template_as_native_obj": arguments.pop("render_template_as_native_obj", False)}
    with DAG("d", schedule=None, **dag):
        FirecRESTSubmitOperator(task_id="job", working_dir="/wd", escalate=POLICY, **arguments)


def test_a_next_job_whose_id_cannot_be_stored_is_waited_for(make, run_task, monkeypatch) -> None:
    """``dag.test()`` gives a trigger no task instance, and Airflow's API may be away for a moment."""

    async def fail(ti: Any, key: str, value: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'dag_id'")

    monkeypatch.setattr("airflow_provider_firecrest.triggers.job.push_xcom", fail)
    run = run_task(make(enough=2))
    assert [job["cause"] for job in run.result["course"]["earlier_jobs"]] == ["node_failure"]


def test_a_dry_run_shows_the_signal_of_the_chain(make, run_task) -> None:
    chain = Chain(max_jobs=3, signal="B:USR1@60", done="done", checkpoint="ckpt/*")
    result = run_task(make(enough=1, chain=chain, dry_run=True)).result
    assert "#SBATCH --signal=B:USR1@60" in result["script"]
