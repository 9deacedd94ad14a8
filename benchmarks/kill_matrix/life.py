"""The life of one case: from its start through its events to the moment at which nothing moves any more."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from demo.deployment import log_entries
from kill_matrix.events import NotDone, happen
from kill_matrix.gateway import Hold
from kill_matrix.observation import Observer, Sight
from kill_matrix.plan import ACTS, ANSWER_FAULTS, CLEARS, Case
from kill_matrix.site import Site

REACHED = 120.0  # seconds until a phase has to be reached
GONE = 60.0  # seconds until what nobody wants any more has to be gone, when all components are there
SETTLED = 240.0  # seconds until everything has to have its end, when all components are there
LONGEST_PAUSE = 8.0  # seconds for which the triggerer stands still before a task defers
LOOKS = 7.0  # seconds in which the provider's sweeper has looked at all tasks, also on a busy machine
QUIET = 5.0  # seconds without a sign of life that mean that there is none
_ALL = 1_000_000
_GATE = "#!/bin/bash\nuntil [ -e gate ]; do sleep 0.2; done\n"


@dataclass
class Story:
    """What became of a case.

    Parameters:
        reached: whether its phase was reached and all of its events happened.
        act_at: when a person's act was done.
        doomed: the latest epoch of which nothing may live after the act.
        wanted_gone: seconds since the epoch at which all components were there to carry the act out.
        left_over: whether something of it lived on regardless.
        hung: whether Airflow did not come to an end.
        max_tries: the task's, when a person acted: Airflow raises it for a clear.
        unseen: whether the run was deleted while the triggerer was away, or had not been there for long.
    """

    case: Case
    sight: Sight
    reached: bool = False
    happened: list[str] = field(default_factory=list)
    act_at: float | None = None
    doomed: int = -1
    wanted_gone: float = 0.0
    left_over: bool = False
    hung: bool = False
    unseen: bool = False
    max_tries: int | None = None
    cancel_seconds: float | None = None
    resume_seconds: float | None = None


def live(site: Site, observer: Observer, case: Case) -> Story:
    """Run a case to its end."""
    with observer.watch(case.run_id, case.dag_id) as sight:
        return _Life(site, case, sight).run()


class _Life:
    def __init__(self, site: Site, case: Case, sight: Sight) -> None:
        self.site, self.case, self.sight = site, case, sight
        self.story = Story(case, sight)
        self.hold: Hold | None = None
        self.paused = False

    def run(self) -> Story:
        case, sight = self.case, self.sight
        sight.folder.mkdir()
        gate = self.site.jobs.submit(_GATE, str(sight.folder), "gate") if case.phase == "queued" else ""
        held = {"before_post": ("submit", "work"), "posting": ("submit", "answer"), "fetching": ("fetch", "work")}
        if case.phase in held:
            self.hold = self.site.gateway.hold(case.run_id, *held[case.phase])
        started = time.time()
        sight.note(f"{case}")
        self._start({"gate": gate, "fails_once": case.fails_once})
        if case.phase == "fetching":
            self._let_go()
        until(lambda: bool(sight.tasks), REACHED)
        try:
            self.story.reached = until(self._reach(), REACHED)
            sight.note(f"{case.phase} {'reached' if self.story.reached else 'MISSED'}")
            if case.phase == "ending":
                self._let_go()
            self._happen()
        finally:
            if self.hold is not None:
                self.site.gateway.drop(self.hold)
            if self.paused:
                self.site.triggerer.go_on()
        if self.story.act_at is not None:
            self._wait_for_gone()
        else:
            time.sleep(random.Random(case.number).uniform(0, 6))
        (sight.folder / "gate").touch()
        self._let_go()
        self.story.hung = not self._settle()
        sight.note("end")
        self._measure_resume(started)
        return self.story

    def _start(self, conf: dict[str, object]) -> None:
        while True:
            try:
                return self.site.api.trigger(self.case.dag_id, self.case.run_id, conf)
            except httpx.TransportError:
                self.sight.note("Airflow does not answer")
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 409:  # it was started by the request before
                    return None
                self.sight.note(f"Airflow refuses to start the run: {error}")
            time.sleep(0.5)

    def _let_go(self) -> None:
        (self.sight.folder / "go").touch()

    # --- phases

    def _reach(self) -> Callable[[], bool]:
        case, sight = self.case, self.sight
        if self.hold is not None:
            return self.hold.arrived.is_set
        if case.phase == "recording":
            return self._submitted
        if case.phase == "deferring":
            until_then = 0.0

            def deferred() -> bool:
                nonlocal until_then
                if self._submitted() and not until_then:
                    self.site.triggerer.pause()
                    self.paused, until_then = True, time.time() + LONGEST_PAUSE
                elif self.paused and time.time() > until_then:  # the worker was struck, by another case
                    self.site.triggerer.go_on()
                    self.paused = False
                return bool(until_then) and sight.job.get("state") == "deferred"

            return deferred
        if case.phase == "queued":
            return lambda: self._watched("PENDING")
        return lambda: bool(sight.running) and self._watched("RUNNING")

    def _submitted(self) -> bool:
        return any(each.case == self.case.run_id and each.job_id for each in self.site.gateway.submissions)

    def _watched(self, state: str) -> bool:
        return any(state in file.read_text(errors="replace") for file in self._logs())

    def _logs(self) -> list[Path]:
        folder = self.site.logs / f"dag_id={self.case.dag_id}" / f"run_id={self.case.run_id}" / "task_id=job"
        return sorted(folder.glob("*.trigger.*.log") if self.case.deferrable else folder.glob("*.log"))

    # --- events

    def _happen(self) -> None:
        task_id = "fetch" if self.case.phase == "fetching" and self.story.reached else "job"
        for event in self.case.events:
            time.sleep(event.delay)
            # Of a task that is cleared the epochs that have begun; no epoch of one that is ended may live.
            doomed = self.site.gateway.latest_epoch(self.case.run_id) if event.kind in CLEARS else _ALL
            max_tries = self.sight.job.get("max_tries")
            try:
                happen(self.site, self.sight, event, task_id, self.hold)
            except NotDone as error:
                self.sight.note(f"{event.kind} did not happen: {error}")
                continue
            self.story.happened.append(event.kind)
            if event.kind in ACTS and (event.kind, task_id) not in (
                ("mark_failed", "fetch"),
                ("mark_success", "fetch"),
            ):
                self.story.act_at, self.story.doomed = time.time(), doomed
                self.story.max_tries = max_tries
                self.story.unseen = event.kind == "delete_run" and self._nobody_looked(self.story.act_at)
        if self.hold is not None and not set(self.story.happened) & set(ANSWER_FAULTS):
            time.sleep(random.Random(self.case.number).uniform(0, 1.5))

    def _nobody_looked(self, now: float) -> bool:
        """Whether the triggerer has not been there for some of its looks since the job was submitted."""
        mine = [each.at for each in self.site.gateway.submissions if each.case == self.case.run_id]
        away = [back for _, back in self.site.triggerer.since(now)]
        return bool(mine) and max([*mine, *away]) > now - LOOKS

    # --- what is waited for

    def _wait_for_gone(self) -> None:
        """Wait until nothing of the doomed epochs lives, and note when it died."""
        story = self.story
        assert story.act_at is not None
        while True:
            now = time.time()
            story.wanted_gone = self._all_there_after(story.act_at)
            seen = self._last_doomed()
            if self.sight.listed > max(seen, story.act_at, story.wanted_gone) + QUIET:
                story.cancel_seconds = max(0.0, seen - story.wanted_gone)
                return
            if now > story.wanted_gone + GONE:
                story.cancel_seconds, story.left_over = now - story.wanted_gone, True
                self.sight.note(f"after {GONE:g} s something lives that nobody wants")
                return
            time.sleep(0.2)

    def _last_doomed(self) -> float:
        seen = list(self.sight.alive.items())
        epoch_of = self.site.gateway.epoch_of
        return max((at for job, at in seen if epoch_of(self.case.run_id, job) <= self.story.doomed), default=0.0)

    def _all_there_after(self, at: float) -> float:
        """When all that an act is carried out by had been there for ten seconds; the scheduler has no part in it."""
        for left, back in self.site.away(at, "triggerer", "server"):
            if left < at + 10 and back > at:
                at = back
        return at

    def _settle(self) -> bool:
        """Wait until Airflow has come to an end and no payload runs."""
        began = time.time()
        deadline = began + SETTLED
        calm = 0.0
        while True:
            now = time.time()
            if self.site.away(now):  # as other cases' doings may keep them
                deadline = min(now + SETTLED / 2, began + 3 * SETTLED) if now > deadline - SETTLED / 2 else deadline
            busy = (
                not self.sight.over or self.sight.running or any(at > now - 2 for at in list(self.sight.alive.values()))
            )
            calm = 0.0 if busy else calm or now
            if calm and now > calm + 2:
                return True
            if now > deadline:
                return False
            time.sleep(0.2)

    # --- how fast a triggerer goes on

    def _measure_resume(self, started: float) -> None:
        """From the last start of the trigger, or the job's end, to its event."""
        if not (self.case.deferrable and {"triggerer_kill", "triggerer_stop"} & set(self.story.happened)):
            return
        begun = fired = 0.0
        starts = 0
        for file in self._logs():
            for at, told in log_entries(file):
                if told.startswith("trigger ") and told.endswith("starting"):
                    begun, starts = at, starts + 1
                elif "fired event" in told:
                    fired = at
        ended = max((payload.ended or 0.0 for payload in self.sight.payloads), default=0.0)
        if starts > 1 and fired > begun:
            self.story.resume_seconds = fired - max(begun, ended)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition, so long at the most; tells whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
