"""The kill matrix: no kill and no action of a user may double, orphan or lose a job.

A real Airflow (API server, scheduler, triggerer, DAG processor) runs on an embedded FirecREST. Each case is one run of
a DAG with one job. The seed decides which events happen to it, and in which phase: workers, triggerer, scheduler and
server are killed, stopped or paused, answers are lost, gateways and shells give odd answers, a user marks, clears or
deletes. Several cases run at the same time in one Airflow, so a component that is killed for one case is killed for
all.

    python -m tests.chaos --cases 200 --seed 1

The last line is a JSON object with

- ``cases``, ``seed``, ``scheduler``, ``seconds``; ``not_checked``: cases in which the test itself failed
- ``doubled``: cases in which a payload ran again for an epoch although the one before had not failed, or in which
  payloads of two epochs ran at the same time, or in which more epochs ran than the user asked for
- ``orphaned``: cases with a job that lived on although its task was ended, cleared or deleted
- ``lost``: cases whose job succeeded without the task being successful with the job's result, or that never ended
- ``left``: cases whose task succeeded, and whose claims were still there some minutes after the last case
- ``late``: cases whose job was gone later than ten seconds after a user's action
- ``deleted_unnoticed``, a documented exception: cases whose run was deleted within seconds of the submission, or while
  the triggerer was down, and whose job lived on
- ``clear_not_recorded``, a documented exception: cases whose clear Airflow itself lost because it missed the end of the
  worker, so that the task continued with its job
- ``cancel_seconds``: for each phase, the seconds until the job was gone, counted from the user's action or from the
  moment at which all components were up again
- ``cancel_seconds_undisturbed``: the same for the cases in which no component was down
- ``resume_seconds``: for the cases in which the triggerer was killed or stopped, the seconds until the trigger fired
  its event, counted from the moment at which the triggerer had started the trigger again and the job had ended
- ``covered``: how often each combination of phase and event happened; ``missed``: cases that ended before their phase

The exit code is 0 if nothing was doubled, orphaned, lost or left. Each violation is printed with the seed and the
history of its case. ``--only NUMBER`` runs one case of a plan.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.processes import kill_descendants
from tests.chaos.case_run import run_case
from tests.chaos.checks import check, wait_for_removal
from tests.chaos.observer import Observer
from tests.chaos.plan import Case, plan, sabotage_cases
from tests.chaos.report import FAILURES, CheckedCase, print_case, summarize
from tests.chaos.testbed import Testbed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases and print the report.

    :returns: the exit code
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200, help="number of cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides all cases (default: %(default)s)")
    parser.add_argument(
        "--scheduler", choices=("process", "slurm"), default="process", help="what runs the jobs (default: %(default)s)"
    )
    parser.add_argument("--only", type=int, nargs="+", help="run only the cases with these numbers")
    parser.add_argument("--at-once", type=int, default=8, help="cases at the same time (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="keep all state there (default: a directory that is removed)")
    parser.add_argument(
        "--sabotage", action="store_true", help="run five cases without a claim, in which it has to find violations"
    )
    options = parser.parse_args(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    cases = sabotage_cases() if options.sabotage else plan(options.cases, options.seed)
    if options.only:
        cases = [case for case in cases if case.number in options.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    home = options.home or Path(tempfile.mkdtemp(prefix="kill-matrix-"))
    started = time.monotonic()
    try:
        with (
            Testbed(home / "site", scheduler=options.scheduler, sabotage=options.sabotage) as testbed,
            Observer(testbed) as observer,
        ):
            checked = run_cases(testbed, observer, cases, options.at_once, options.seed)
            left = wait_for_removal([result for result, _ in checked])
            checked = [(result, [*found, *left.get(result.case.run_id, ())]) for result, found in checked]
            for found in left.values():
                print(*found, sep="\n", flush=True)
            summary = summarize(testbed, observer, checked)
    finally:
        kill_descendants()
    log = (home / "site" / "airflow" / "api-server.log").read_text(errors="replace")
    report = {
        "cases": len(checked),
        "not_checked": len(cases) - len(checked),
        "seed": options.seed,
        "scheduler": options.scheduler,
        "seconds": round(time.monotonic() - started),
        **summary,
        "database_errors": log.count("Error with id"),
    }
    failed = any(report[kind] for kind in (*FAILURES, "not_checked"))
    if failed:
        print(f"All state is kept in {home}.")
    elif not options.home:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(report))
    return 1 if failed else 0


def run_cases(testbed: Testbed, observer: Observer, cases: list[Case], at_once: int, seed: int) -> list[CheckedCase]:
    """Run the cases, several at the same time, and check each.

    :returns: the cases that could be checked
    """
    printing = threading.Lock()
    began = time.time()

    def run_one(case: Case) -> CheckedCase | None:
        try:
            result = run_case(testbed, observer, case)
            violations = check(testbed, result)
        except Exception:
            with printing:
                print(
                    f"The test itself failed in seed {seed}, {case}:\n{traceback.format_exc(limit=-4, chain=False)}",
                    flush=True,
                )
            return None
        with printing:
            print_case(testbed, result, violations, seed, began)
        return result, violations

    pool = ThreadPoolExecutor(at_once)
    try:
        checked = list(pool.map(run_one, cases))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [each for each in checked if each is not None]


if __name__ == "__main__":
    try:
        status = main()
    except (KeyboardInterrupt, SystemExit) as error:
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 130
    # Threads of interrupted cases are still waiting, and a normal exit would wait for them.
    sys.stdout.flush()
    os._exit(status)
