"""Random kills over chains and escalations: whoever waits may die at any moment, and no work is doubled or lost.

Each case is one task: a chain, an escalation, an array whose elements fail, or an array of chains. The jobs of all
cases run on an embedded FirecREST, which loses answers and is killed now and then. A process submits the task's jobs
and waits for them, as an engine's does. It is killed or paused, at random moments or at the requests between two jobs.
Then another one is started, until one reports the end. Some tasks are cancelled meanwhile, by processes that may be
killed, too.

    python -m tests.campaign_kills --cases 200 --seed 1

The last line is a JSON object with

- ``cases``, ``seed``, ``seconds``; ``not_checked``: cases in which the test itself failed
- ``doubled``: cases in which two payloads of a task, or of an array's element, ran at the same time
- ``orphaned``: cases with a job that waited or ran after the end of its task
- ``lost``: cases that did not come to their end: the work is done, or a person has cancelled it
- ``repeated``: cases with a step that a checkpoint had already, or with a payload after the work was done
- ``kills``, ``pauses``, ``restarts``: processes that were killed or paused, and how often the server was killed
- ``errors``: processes that ended with an error instead; an engine tries again
- ``jobs``, ``payloads``: jobs that the scheduler has had, and those that ran something; of an array each element
- ``ahead``, ``payloads_ahead``: jobs that were submitted while the one before them ran, and those that ran something

The exit code is 0 if nothing was doubled, orphaned, lost or repeated. Each violation is printed with the seed and the
history of its case. ``--only NUMBER …`` runs cases of the same ``--cases`` and ``--seed``.
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
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from firecrest_core.jobs.key import is_ahead
from harness.processes import kill_descendants
from tests.campaign_kills.case_run import CaseResult, run_case
from tests.campaign_kills.checks import KINDS, Violation, check, check_afterwards, read_log
from tests.campaign_kills.plan import Case, plan, sabotage_cases
from tests.campaign_kills.site import Site

CheckedCase = tuple[CaseResult, list[Violation]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases and print the report.

    :returns: the exit code
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign_kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200, help="number of cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides all cases (default: %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", help="run only the cases with these numbers")
    parser.add_argument("--at-once", type=int, default=12, help="cases at the same time (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="keep all state there (default: a directory that is removed)")
    parser.add_argument(
        "--sabotage",
        action="store_true",
        help="run a few cases in which each process ignores the claims and causes of others, and find violations",
    )
    options = parser.parse_args(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    cases = sabotage_cases() if options.sabotage else plan(options.cases, options.seed)
    if options.only:
        cases = [case for case in cases if case.number in options.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    home = options.home or Path(tempfile.mkdtemp(prefix="campaign-kills-"))
    started = time.monotonic()
    try:
        with Site(home / "site", options.seed) as site:
            checked = run_cases(site, cases, options.at_once, options.seed, sabotage=options.sabotage)
            checked = [(result, [*found, *check_afterwards(result)]) for result, found in checked]
            restarts = site.restarts
    finally:
        kill_descendants()
    for result, found in checked:
        if found:
            print_violations(result, found, options.seed)
    report = {
        "cases": len(checked),
        "not_checked": len(cases) - len(checked),
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        **summarize(checked),
        "restarts": restarts,
    }
    failed = any(report[kind] for kind in (*KINDS, "not_checked"))
    if failed:
        print(f"All state is kept in {home}.")
    elif not options.home:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(report))
    return 1 if failed else 0


def run_cases(site: Site, cases: list[Case], at_once: int, seed: int, *, sabotage: bool) -> list[CheckedCase]:
    """Run the cases, several at the same time, and check each.

    :returns: the cases that could be checked
    """
    printing = threading.Lock()

    def run_one(case: Case) -> CheckedCase | None:
        began = time.monotonic()
        try:
            result = run_case(site, case, sabotage=sabotage)
            found = check(result)
        except Exception:
            with printing:
                print(f"The test itself failed in seed {seed}, {case}:\n{traceback.format_exc()}", flush=True)
            return None
        verdict = ", ".join(sorted({violation.kind for violation in found})) or "ok"
        with printing:
            print(f"{time.monotonic() - began:6.0f} s  {case}: {result.outcome}, {verdict}", flush=True)
        return result, found

    pool = ThreadPoolExecutor(at_once)
    try:
        checked = list(pool.map(run_one, cases))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [each for each in checked if each is not None]


def print_violations(result: CaseResult, found: list[Violation], seed: int) -> None:
    """Print the violations of a case, and what its processes and payloads have said, in the order of time."""
    print(f"{result.case}: {result.outcome} {result.problem}")
    for violation in found:
        print(f"    {violation.kind.upper()} seed {seed} case {result.case.number}: {violation.text}")
    lines = (result.folder / "history").read_text(errors="replace").splitlines()
    lines += [f"{line.at:.3f} {line.pid} payload: {line}" for line in read_log(result)]
    lines += [f"(in the end) job {row.job_id} {row.name}: {row.state}" for row in result.jobs]
    for line in sorted(lines):
        print(f"      {line}")
    sys.stdout.flush()


def summarize(checked: list[CheckedCase]) -> dict[str, int]:
    """Count the violations and what has happened."""
    found = Counter(kind for _, violations in checked for kind in {violation.kind for violation in violations})
    results = [result for result, _ in checked]
    return {
        **{kind: found[kind] for kind in KINDS},
        "kills": sum(result.killed for result in results),
        "pauses": sum(result.paused for result in results),
        "cancelled": sum(result.cancelled for result in results),
        "errors": sum(result.errors for result in results),
        "jobs": sum(len(result.jobs) for result in results),
        "payloads": sum(line.event == "start" for result in results for line in read_log(result)),
        "ahead": sum(is_ahead(row.name) for result in results for row in result.jobs),
        "payloads_ahead": sum(
            row.job_id == line.job and line.event == "start"
            for result in results
            for row in result.jobs
            if is_ahead(row.name)
            for line in read_log(result)
        ),
    }


if __name__ == "__main__":
    try:
        status = main()
    except (KeyboardInterrupt, SystemExit) as error:
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 130
    # Threads of interrupted cases are still waiting, and a normal exit would wait for them.
    sys.stdout.flush()
    os._exit(status)
