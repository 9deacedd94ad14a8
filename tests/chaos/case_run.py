"""Running one case: from the start of its DAG run through its events until everything has ended."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from harness.airflow.logs import log_entries
from tests.chaos.actions import EventImpossible, carry_out
from tests.chaos.gateway import HeldRequest
from tests.chaos.observation import Observation
from tests.chaos.observer import Observer
from tests.chaos.plan import ANSWER_FAULTS, CLEARS, USER_ACTIONS, Case
from tests.chaos.testbed import Testbed

PHASE_TIMEOUT = 120.0  # seconds until a phase has to be reached
GONE_TIMEOUT = 60.0  # seconds until cancelled jobs have to be gone, counted while all components are up
END_TIMEOUT = 240.0  # seconds until everything has to have ended, counted while all components are up
LONGEST_PAUSE = 8.0  # seconds for which the triggerer is paused while a task defers
RECONCILED_WITHIN = 7.0  # seconds in which the provider's reconciler has read all tasks, also on a busy machine
GONE_AFTER = 5.0  # seconds without a sign of life after which a job is gone
_ALL_EPOCHS = 1_000_000
_BLOCKING_SCRIPT = "#!/bin/bash\nuntil [ -e gate ]; do sleep 0.2; done\n"


@dataclass
class CaseResult:
    """The result of a case.

    :param reached: whether its phase was reached
    :param happened: the kinds of its events that happened
    :param acted_at: the Unix time of the user's action; None if there was none that concerns the job
    :param cancelled_epoch: the latest epoch of which no job may live after the user's action
    :param cancellable_at: the Unix time at which all components were up to carry the action out
    :param still_alive: whether a job lived on although it was cancelled
    :param hung: whether Airflow and the payloads did not end
    :param deleted_unnoticed: whether the run was deleted while the triggerer was down, or too soon after the submission
    :param max_tries: the task's `max_tries` before the user's action, which Airflow raises for a clear
    :param cancel_seconds: from `cancellable_at` until the jobs were gone
    :param resume_seconds: from the restart of the trigger, or the job's end, until the trigger fired its event
    """

    case: Case
    observation: Observation
    reached: bool = False
    happened: list[str] = field(default_factory=list)
    acted_at: float | None = None
    cancelled_epoch: int = -1
    cancellable_at: float = 0.0
    still_alive: bool = False
    hung: bool = False
    deleted_unnoticed: bool = False
    max_tries: int | None = None
    cancel_seconds: float | None = None
    resume_seconds: float | None = None


def run_case(testbed: Testbed, observer: Observer, case: Case) -> CaseResult:
    """Run a case to its end."""
    with observer.observe(case.run_id, case.dag_id) as observation:
        return _CaseRun(testbed, case, observation).run()


class _CaseRun:
    def __init__(self, testbed: Testbed, case: Case, observation: Observation) -> None:
        self.testbed, self.case, self.observation = testbed, case, observation
        self.result = CaseResult(case, observation)
        self.held_request: HeldRequest | None = None
        self.triggerer_paused = False

    def run(self) -> CaseResult:
        case, observation = self.case, self.observation
        observation.folder.mkdir()
        blocking_job = ""
        if case.phase == "queued":
            blocking_job = self.testbed.cluster.submit(_BLOCKING_SCRIPT, str(observation.folder), "gate")
        holds = {
            "before_post": ("submit", "forwarding"),
            "posting": ("submit", "answering"),
            "fetching": ("fetch", "forwarding"),
        }
        if case.phase in holds:
            self.held_request = self.testbed.gateway.hold(case.run_id, *holds[case.phase])
        observation.record(f"{case}")
        self._start_run({"gate": blocking_job, "fails_once": case.fails_once})
        if case.phase == "fetching":
            self._finish_job()
        wait_for(lambda: bool(observation.tasks), PHASE_TIMEOUT)
        try:
            self.result.reached = wait_for(self._phase_condition(), PHASE_TIMEOUT)
            observation.record(f"{case.phase} {'reached' if self.result.reached else 'MISSED'}")
            if case.phase == "job_ended":
                self._finish_job()
            self._carry_out_events()
        finally:
            if self.held_request is not None:
                self.testbed.gateway.drop(self.held_request)
            if self.triggerer_paused:
                self.testbed.triggerer.resume()
        if self.result.acted_at is not None:
            self._wait_until_gone()
        else:
            time.sleep(random.Random(case.number).uniform(0, 6))
        (observation.folder / "gate").touch()
        self._finish_job()
        self.result.hung = not self._wait_for_end()
        observation.record("end")
        self._measure_resume()
        return self.result

    def _start_run(self, conf: dict[str, object]) -> None:
        while True:
            try:
                return self.testbed.api.trigger(self.case.dag_id, self.case.run_id, conf)
            except httpx.TransportError:
                self.observation.record("Airflow does not answer")
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 409:  # the previous request has started it
                    return None
                self.observation.record(f"Airflow refuses to start the run: {error}")
            time.sleep(0.5)

    def _finish_job(self) -> None:
        (self.observation.folder / "finish").touch()

    # --- phases

    def _phase_condition(self) -> Callable[[], bool]:
        case, observation = self.case, self.observation
        if self.held_request is not None:
            return self.held_request.received.is_set
        if case.phase == "recording":
            return self._is_submitted
        if case.phase == "deferring":
            resume_at = 0.0

            def deferred() -> bool:
                nonlocal resume_at
                if self._is_submitted() and not resume_at:
                    self.testbed.triggerer.pause()
                    self.triggerer_paused, resume_at = True, time.time() + LONGEST_PAUSE
                elif self.triggerer_paused and time.time() > resume_at:  # an event of another case hit the worker
                    self.testbed.triggerer.resume()
                    self.triggerer_paused = False
                return bool(resume_at) and observation.job_task.get("state") == "deferred"

            return deferred
        if case.phase == "queued":
            return lambda: self._logs_contain("PENDING")
        return lambda: bool(observation.running) and self._logs_contain("RUNNING")

    def _is_submitted(self) -> bool:
        return any(each.case == self.case.run_id and each.job_id for each in self.testbed.gateway.submissions)

    def _logs_contain(self, state: str) -> bool:
        return any(state in file.read_text(errors="replace") for file in self._logs())

    def _logs(self) -> list[Path]:
        folder = self.testbed.logs / f"dag_id={self.case.dag_id}" / f"run_id={self.case.run_id}" / "task_id=job"
        return sorted(folder.glob("*.trigger.*.log") if self.case.deferrable else folder.glob("*.log"))

    # --- events

    def _carry_out_events(self) -> None:
        result = self.result
        task_id = "fetch" if self.case.phase == "fetching" and result.reached else "job"
        for event in self.case.events:
            time.sleep(event.delay)
            # A clear cancels the epochs that have begun, any other action cancels all epochs.
            cleared = event.kind in CLEARS
            cancelled_epoch = self.testbed.gateway.latest_epoch(self.case.run_id) if cleared else _ALL_EPOCHS
            max_tries = self.observation.job_task.get("max_tries")
            try:
                carry_out(self.testbed, self.observation, event, task_id, self.held_request)
            except EventImpossible as error:
                self.observation.record(f"{event.kind} did not happen: {error}")
                continue
            result.happened.append(event.kind)
            if event.kind in USER_ACTIONS and (event.kind, task_id) not in (
                ("mark_failed", "fetch"),
                ("mark_success", "fetch"),
            ):
                result.acted_at, result.cancelled_epoch = time.time(), cancelled_epoch
                result.max_tries = max_tries
                result.deleted_unnoticed = event.kind == "delete_run" and self._is_unreconciled(result.acted_at)
        if self.held_request is not None and not set(result.happened) & set(ANSWER_FAULTS):
            time.sleep(random.Random(self.case.number).uniform(0, 1.5))

    def _is_unreconciled(self, now: float) -> bool:
        """Return whether the triggerer's reconciler may not have read the task since the job was submitted."""
        submitted = [each.at for each in self.testbed.gateway.submissions if each.case == self.case.run_id]
        back_up = [end for _, end in self.testbed.triggerer.downtimes_until(now)]
        return bool(submitted) and max([*submitted, *back_up]) > now - RECONCILED_WITHIN

    # --- waiting for the effects

    def _wait_until_gone(self) -> None:
        """Wait until no job of the cancelled epochs is alive, and measure how long that takes."""
        result = self.result
        assert result.acted_at is not None
        while True:
            now = time.time()
            result.cancellable_at = self._all_up_after(result.acted_at)
            last_alive = self._cancelled_last_alive()
            if self.observation.queue_listed_at > max(last_alive, result.acted_at, result.cancellable_at) + GONE_AFTER:
                result.cancel_seconds = max(0.0, last_alive - result.cancellable_at)
                return
            if now > result.cancellable_at + GONE_TIMEOUT:
                result.cancel_seconds, result.still_alive = now - result.cancellable_at, True
                self.observation.record(f"a cancelled job is still alive after {GONE_TIMEOUT:g} s")
                return
            time.sleep(0.2)

    def _cancelled_last_alive(self) -> float:
        jobs = list(self.observation.last_alive.items())
        epoch_of = self.testbed.gateway.epoch_of
        return max(
            (at for job, at in jobs if epoch_of(self.case.run_id, job) <= self.result.cancelled_epoch), default=0.0
        )

    def _all_up_after(self, at: float) -> float:
        """Return the first time after which triggerer, server and gateway stayed up for ten seconds.

        They carry a user's action out; the scheduler is not needed for it.
        """
        for down, up in self.testbed.downtimes(at, "triggerer", "server"):
            if down < at + 10 and up > at:
                at = up
        return at

    def _wait_for_end(self) -> bool:
        """Wait until Airflow has finished the run and no payload runs.

        :returns: whether that happened in time
        """
        began = time.time()
        deadline = began + END_TIMEOUT
        ended_at = 0.0
        while True:
            now = time.time()
            if self.testbed.downtimes(now) and now > deadline - END_TIMEOUT / 2:  # events of other cases keep them down
                deadline = min(now + END_TIMEOUT / 2, began + 3 * END_TIMEOUT)
            busy = (
                not self.observation.finished
                or self.observation.running
                or any(at > now - 2 for at in list(self.observation.last_alive.values()))
            )
            ended_at = 0.0 if busy else ended_at or now
            if ended_at and now > ended_at + 2:
                return True
            if now > deadline:
                return False
            time.sleep(0.2)

    # --- the time that a trigger takes to resume

    def _measure_resume(self) -> None:
        """Measure from the last start of the trigger, or the job's end, to the trigger's event."""
        if not (self.case.deferrable and {"triggerer_kill", "triggerer_stop"} & set(self.result.happened)):
            return
        started = fired = 0.0
        starts = 0
        for file in self._logs():
            for at, text in log_entries(file):
                if text.startswith("trigger ") and text.endswith("starting"):
                    started, starts = at, starts + 1
                elif "fired event" in text:
                    fired = at
        ended = max((payload.ended or 0.0 for payload in self.observation.payloads), default=0.0)
        if starts > 1 and fired > started:
            self.result.resume_seconds = fired - max(started, ended)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition.

    :param seconds: how long at most
    :returns: whether the condition holds
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
