"""Carrying out the events of a case: on components, on requests, and as a user's action."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.chaos.component import send_signal
from tests.chaos.gateway import HeldRequest
from tests.chaos.observation import Observation
from tests.chaos.plan import ANSWER_FAULTS, FAULTS, ODD_ANSWERS, USER_ACTIONS, Event
from tests.chaos.testbed import Testbed


class EventImpossible(Exception):
    """An event that could not happen; the message says why."""


def carry_out(
    testbed: Testbed, observation: Observation, event: Event, task_id: str, held_request: HeldRequest | None
) -> None:
    """Carry out an event.

    :param task_id: the task that it concerns
    :param held_request: the request of the case that the gateway holds
    :raises EventImpossible: the task has no worker process, or Airflow refuses the user's action
    """
    target, _, how = event.kind.partition("_")
    if event.kind in USER_ACTIONS:
        _act_as_user(testbed, observation, event.kind, task_id)
    elif target in testbed.components:
        component = testbed.components[target]
        if how == "kill":
            component.kill(event.seconds, with_children=event.with_children and target != "server")
        elif how == "stop":
            component.stop(event.seconds)
        else:
            component.pause()
            _call_later(event.seconds, component.resume)
    elif event.kind in ANSWER_FAULTS:
        if held_request is None:
            raise EventImpossible("the gateway holds no answer")
        held_request.fault = event.kind
    elif event.kind in FAULTS or event.kind in ODD_ANSWERS:
        testbed.gateway.fail(event.kind, event.seconds)
        testbed.log.append((time.time(), f"--- {event.kind} of {event.seconds} s"))
    else:
        _signal_worker(testbed, observation, event, task_id)
    observation.record(f"*** {event.kind}")


def _signal_worker(testbed: Testbed, observation: Observation, event: Event, task_id: str) -> None:
    supervisors, runners = testbed.worker(observation.tasks[task_id]["id"])
    targets = {
        "worker_kill": [*supervisors, *runners],
        "supervisor_kill": supervisors,
        "process_kill": runners,
        "worker_stop": [*supervisors, *runners],
        "worker_pause": [*supervisors, *runners],
    }[event.kind]
    if not targets:
        raise EventImpossible("no worker process runs the task")
    number = {"worker_stop": signal.SIGTERM, "worker_pause": signal.SIGSTOP}.get(event.kind, signal.SIGKILL)
    send_signal(targets, number)
    if number == signal.SIGSTOP:
        _call_later(event.seconds, lambda: send_signal(targets, signal.SIGCONT))


def _call_later(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


def _act_as_user(testbed: Testbed, observation: Observation, kind: str, task_id: str) -> None:
    if kind == "delete_run":  # Airflow does not delete a run that is still running
        _send_request(testbed, observation, kind, "PATCH", _run_path(observation), {"state": "failed"})
    _send_request(testbed, observation, kind, *_request(observation, kind, task_id))


def _send_request(
    testbed: Testbed, observation: Observation, kind: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            testbed.api.request(method, path, json=body)
            return
        except httpx.HTTPStatusError as error:
            observation.record(f"Airflow refuses {kind}: {error}")
            if error.response.status_code == 404 and method == "DELETE":  # done by an earlier request that timed out
                return
            if error.response.status_code < 500 or time.monotonic() > deadline:
                raise EventImpossible(f"Airflow refuses: {error}") from None
        except httpx.TransportError as error:
            if time.monotonic() > deadline:
                raise EventImpossible(f"Airflow does not answer: {error!r}") from None
        time.sleep(0.5)


def _request(observation: Observation, kind: str, task_id: str) -> tuple[str, str, dict[str, Any] | None]:
    run = _run_path(observation)
    if kind.startswith("mark_"):
        return "PATCH", f"{run}/taskInstances/{task_id}", {"new_state": kind.removeprefix("mark_")}
    if kind == "clear":
        body = {
            "dry_run": False,
            "dag_run_id": observation.run_id,
            "task_ids": ["job"],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        return "POST", f"/dags/{observation.dag_id}/clearTaskInstances", body
    if kind == "clear_run":
        return "POST", f"{run}/clear", {"dry_run": False, "only_failed": False}
    return "DELETE", run, None


def _run_path(observation: Observation) -> str:
    return f"/dags/{observation.dag_id}/dagRuns/{observation.run_id}"
