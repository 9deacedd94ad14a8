"""Making things happen: to programs, to requests, and by a person."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from kill_matrix.gateway import Hold
from kill_matrix.observation import Sight
from kill_matrix.plan import ACTS, Event
from kill_matrix.site import Site


class NotDone(Exception):
    """An event that could not happen; says why."""


def happen(site: Site, sight: Sight, event: Event, task_id: str, hold: Hold | None) -> None:
    """Let an event happen.

    Parameters:
        task_id: the task that it concerns.
        hold: the request that is on its way.

    Raises:
        NotDone: there is no worker to strike, or Airflow refuses the act.
    """
    what, _, how = event.kind.partition("_")
    if event.kind in ACTS:
        _act(site, sight, event.kind, task_id)
    elif what in site.components:
        component = site.components[what]
        if how == "kill":
            component.kill(event.seconds, whole=event.whole and what != "server")
        elif how == "stop":
            component.stop(event.seconds)
        else:
            component.pause()
            _later(event.seconds, component.go_on)
    elif event.kind in ("lost_answer", "timeout_408", "duplicate"):
        if hold is None:
            raise NotDone("no answer is on its way")
        hold.answer = "lose" if event.kind == "lost_answer" else event.kind
    elif event.kind in ("burst_5xx", "outage"):
        site.gateway.fail(event.kind, event.seconds)
        site.diary.append((time.time(), f"--- {event.kind} of {event.seconds} s"))
    else:
        _strike_worker(site, sight, event, task_id)
    sight.note(f"*** {event.kind}")


def _strike_worker(site: Site, sight: Sight, event: Event, task_id: str) -> None:
    supervisors, runners = site.worker(sight.tasks[task_id]["id"])
    struck = {
        "worker_kill": [*supervisors, *runners],
        "supervisor_kill": supervisors,
        "process_kill": runners,
        "worker_stop": [*supervisors, *runners],
        "worker_pause": [*supervisors, *runners],
    }[event.kind]
    if not struck:
        raise NotDone("no worker is busy with the task")
    number = {"worker_stop": signal.SIGTERM, "worker_pause": signal.SIGSTOP}.get(event.kind, signal.SIGKILL)
    _send(struck, number)
    if number == signal.SIGSTOP:
        _later(event.seconds, lambda: _send(struck, signal.SIGCONT))


def _send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _later(seconds: float, do: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()


def _act(site: Site, sight: Sight, kind: str, task_id: str) -> None:
    if kind == "delete_run":  # Airflow deletes no run that goes on
        _send_request(site, sight, kind, "PATCH", _run(sight), {"state": "failed"})
    _send_request(site, sight, kind, *_request(sight, kind, task_id))


def _send_request(site: Site, sight: Sight, kind: str, method: str, path: str, body: dict[str, Any] | None) -> None:
    until = time.monotonic() + 90
    while True:
        try:
            site.api.request(method, path, json=body)
            return
        except httpx.HTTPStatusError as error:
            sight.note(f"Airflow refuses {kind}: {error}")
            if error.response.status_code == 404 and method == "DELETE":  # a request whose answer did not come in time
                return
            if error.response.status_code < 500 or time.monotonic() > until:
                raise NotDone(f"Airflow refuses: {error}") from None
        except httpx.TransportError as error:
            if time.monotonic() > until:
                raise NotDone(f"Airflow does not answer: {error!r}") from None
        time.sleep(0.5)


def _request(sight: Sight, kind: str, task_id: str) -> tuple[str, str, dict[str, Any] | None]:
    run = _run(sight)
    if kind.startswith("mark_"):
        return "PATCH", f"{run}/taskInstances/{task_id}", {"new_state": kind.removeprefix("mark_")}
    if kind == "clear":
        body = {
            "dry_run": False,
            "dag_run_id": sight.run_id,
            "task_ids": ["job"],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        return "POST", f"/dags/{sight.dag_id}/clearTaskInstances", body
    if kind == "clear_run":
        return "POST", f"{run}/clear", {"dry_run": False, "only_failed": False}
    return "DELETE", run, None


def _run(sight: Sight) -> str:
    return f"/dags/{sight.dag_id}/dagRuns/{sight.run_id}"
