"""Is a job ever doubled, orphaned or lost, whatever is killed and whatever a person does?

A real Airflow (API server, scheduler, triggerer, DAG processor) on an embedded FirecREST. Each case is one run of a DAG
with one job; the seed decides in which phase of its life something happens to it, and what: workers, triggerer,
scheduler and server are killed, stopped or paused, answers get lost, a person marks, clears or deletes. Several cases
go on at once in one Airflow, so that what is killed for one is killed for all.

    python benchmarks/chaos.py --cases 200 --seed 1

The last line is a JSON object with

- ``cases``, ``seed``, ``scheduler``, ``seconds``
- ``doubled``: cases in which more than one payload ran for one epoch that did not fail, or two at the same time
- ``orphaned``: cases with a job that lived on although its task was ended, cleared or deleted
- ``lost``: cases whose job ended well without the task being successful with the job's result, or that never ended
- ``late``: cases whose job was gone, but not within ten seconds of a person's act
- ``unseen``: cases whose run was deleted within seconds of the submission, or while the triggerer was away, and whose
  job lived on; ``forgotten``: cases whose clear Airflow itself forgot, because nobody heard of the worker's end, so
  that the task went on with its job: the exceptions that the documentation names
- ``cancel_seconds``: from a person's act, or the return of what was away, until the job was gone, for each phase;
  ``cancel_seconds_undisturbed``: where nothing was away, from the act
- ``resume_seconds``: after the triggerer was killed, from the moment at which it has the trigger again and the job has
  ended, to the task's being resumed
- ``covered``: how often each pair of a phase and an event really happened; ``missed``: cases that had ended before

The exit code is 0 if nothing was doubled, orphaned or lost. Every violation is told with the seed and what happened;
``--only NUMBER`` runs one case of a plan.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo.services import end_children
from kill_matrix.judgement import Violation, judge
from kill_matrix.life import Story, live
from kill_matrix.observation import Observer
from kill_matrix.plan import Case, betrayals, plan
from kill_matrix.site import POLL_INTERVAL, Site

KINDS = ("doubled", "orphaned", "lost", "late", "unseen", "forgotten")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides all of them (default: %(default)s)")
    parser.add_argument(
        "--scheduler", choices=("process", "slurm"), default="process", help="what runs the jobs (default: %(default)s)"
    )
    parser.add_argument("--only", type=int, nargs="+", help="only these cases of the plan")
    parser.add_argument("--at-once", type=int, default=8, help="cases in one Airflow (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="keep everything there (default: a directory that is removed)")
    parser.add_argument(
        "--sabotage", action="store_true", help="five cases without a claim, of which something has to be found"
    )
    given = parser.parse_args(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    cases = betrayals() if given.sabotage else plan(given.cases, given.seed)
    if given.only:
        cases = [case for case in cases if case.number in given.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    home = given.home or Path(tempfile.mkdtemp(prefix="kill-matrix-"))
    started = time.monotonic()
    try:
        with (
            Site(home / "site", scheduler=given.scheduler, sabotage=given.sabotage) as site,
            Observer(site) as observer,
        ):
            judged = run(site, observer, cases, given.at_once, given.seed)
            report = summary(site, observer, judged)
    finally:
        end_children()
    log = (home / "site" / "airflow" / "api-server.log").read_text(errors="replace")
    report = {
        "cases": len(judged),
        "not_judged": len(cases) - len(judged),
        "seed": given.seed,
        "scheduler": given.scheduler,
        "seconds": round(time.monotonic() - started),
        **report,
        "database_errors": log.count("Error with id"),
    }
    violated = any(report[kind] for kind in (*KINDS[:3], "not_judged"))
    if not given.home and not violated:
        shutil.rmtree(home, ignore_errors=True)
    elif violated:
        print(f"Everything is kept in {home}.")
    print(json.dumps(report))
    return 1 if violated else 0


def run(
    site: Site, observer: Observer, cases: list[Case], at_once: int, seed: int
) -> list[tuple[Story, list[Violation]]]:
    """Run the cases, several at once, and judge each."""
    talking = threading.Lock()
    began = time.time()

    def one(case: Case) -> tuple[Story, list[Violation]] | None:
        try:
            story = live(site, observer, case)
            violations = judge(site, story)
        except Exception:
            with talking:
                print(
                    f"The harness failed in seed {seed}, {case}:\n{traceback.format_exc(limit=-4, chain=False)}",
                    flush=True,
                )
            return None
        with talking:
            tell(site, story, violations, seed, began)
        return story, violations

    pool = ThreadPoolExecutor(at_once)
    try:
        judged = list(pool.map(one, cases))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [each for each in judged if each is not None]


def tell(site: Site, story: Story, violations: list[Violation], seed: int, began: float) -> None:
    """Print one case's line, and its whole story if something is wrong."""
    verdict = ", ".join(sorted({violation.kind for violation in violations})) or "well"
    times = "" if story.cancel_seconds is None else f", gone after {story.cancel_seconds:.1f} s"
    undone = [event.kind for event in story.case.events if event.kind not in story.happened]
    missed = [*([] if story.reached else ["its phase"]), *undone]
    times += f" (missed {', '.join(missed)})" if missed else ""
    print(f"{time.time() - began:6.0f} s  {story.case}: {verdict}{times}", flush=True)
    if violations:
        for violation in violations:
            print(f"    {violation.kind.upper()} seed {seed} case {story.case.number}: {violation.text}")
        first, last = story.sight.history[0][0], story.sight.history[-1][0]
        for at, text in sorted([*story.sight.history, *(each for each in site.diary if first < each[0] < last)]):
            print(f"      {time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03} {text}")
        sys.stdout.flush()


def summary(site: Site, observer: Observer, judged: list[tuple[Story, list[Violation]]]) -> dict[str, Any]:
    """Count."""
    found = Counter(kind for _, violations in judged for kind in {violation.kind for violation in violations})
    gone: dict[str, list[float]] = defaultdict(list)
    covered: Counter[str] = Counter()
    for story, _ in judged:
        if story.cancel_seconds is not None:
            gone[story.case.phase].append(story.cancel_seconds)
        if story.reached:
            covered.update(f"{story.case.phase}/{kind}" for kind in story.happened)
    resumed = [story.resume_seconds for story, _ in judged if story.resume_seconds is not None]
    return {
        **{kind: found[kind] for kind in KINDS},
        "payloads": sum(len(story.sight.payloads) for story, _ in judged),
        "submissions": len(site.gateway.submissions),
        "cancel_seconds": {phase: _spread(times) for phase, times in sorted(gone.items())},
        "cancel_seconds_undisturbed": _spread(
            story.cancel_seconds
            for story, _ in judged
            if story.cancel_seconds is not None and story.wanted_gone == story.act_at
        ),
        "resume_seconds": _spread(resumed) | {"poll_interval": POLL_INTERVAL},
        "missed": sum(not story.reached for story, _ in judged),
        "died_by_itself": observer.deaths,
        "covered": dict(sorted(covered.items())),
    }


def _spread(seconds: Iterable[float]) -> dict[str, float]:
    times = sorted(seconds)
    if not times:
        return {"n": 0}
    return {"n": len(times), "median": round(statistics.median(times), 1), "max": round(times[-1], 1)}


if __name__ == "__main__":
    try:
        status = main()
    except (KeyboardInterrupt, SystemExit) as wish:
        status = wish.code if isinstance(wish, SystemExit) and isinstance(wish.code, int) else 130
    # Cases that were broken off would go on waiting, and Python for them.
    sys.stdout.flush()
    os._exit(status)
