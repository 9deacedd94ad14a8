"""What is printed about the cases: a line or a history for each, and the summary of all."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tests.chaos.case_run import CaseResult
from tests.chaos.checks import Violation
from tests.chaos.observer import Observer
from tests.chaos.testbed import POLL_INTERVAL, Testbed

#: The kinds of violations that fail a test run.
FAILURES = ("doubled", "orphaned", "lost", "left")
KINDS = (*FAILURES, "late", "deleted_unnoticed", "clear_not_recorded")

CheckedCase = tuple[CaseResult, list[Violation]]


def print_case(testbed: Testbed, result: CaseResult, violations: list[Violation], seed: int, began: float) -> None:
    """Print one line about a case, and its history if there are violations.

    :param began: the Unix time at which the first case started
    """
    verdict = ", ".join(sorted({violation.kind for violation in violations})) or "ok"
    if result.cancel_seconds is not None:
        verdict += f", gone after {result.cancel_seconds:.1f} s"
    missed = [] if result.reached else ["its phase"]
    missed += [event.kind for event in result.case.events if event.kind not in result.happened]
    if missed:
        verdict += f" (missed {', '.join(missed)})"
    print(f"{time.time() - began:6.0f} s  {result.case}: {verdict}", flush=True)
    if violations:
        for violation in violations:
            print(f"    {violation.kind.upper()} seed {seed} case {result.case.number}: {violation.text}")
        history = result.observation.history
        first, last = history[0][0], history[-1][0]
        for at, text in sorted([*history, *(each for each in testbed.log if first < each[0] < last)]):
            print(f"      {time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03} {text}")
        sys.stdout.flush()


def summarize(testbed: Testbed, observer: Observer, checked: list[CheckedCase]) -> dict[str, Any]:
    """Count the violations and the covered combinations, and summarize the measured times."""
    found = Counter(kind for _, violations in checked for kind in {violation.kind for violation in violations})
    cancel_seconds: dict[str, list[float]] = defaultdict(list)
    covered: Counter[str] = Counter()
    for result, _ in checked:
        if result.cancel_seconds is not None:
            cancel_seconds[result.case.phase].append(result.cancel_seconds)
        if result.reached:
            covered.update(f"{result.case.phase}/{kind}" for kind in result.happened)
    return {
        **{kind: found[kind] for kind in KINDS},
        "payloads": sum(len(result.observation.payloads) for result, _ in checked),
        "submissions": len(testbed.gateway.submissions),
        "cancel_seconds": {phase: _spread(seconds) for phase, seconds in sorted(cancel_seconds.items())},
        "cancel_seconds_undisturbed": _spread(
            result.cancel_seconds
            for result, _ in checked
            if result.cancel_seconds is not None and result.cancellable_at == result.acted_at
        ),
        "resume_seconds": _spread(result.resume_seconds for result, _ in checked if result.resume_seconds is not None)
        | {"poll_interval": POLL_INTERVAL},
        "missed": sum(not result.reached for result, _ in checked),
        "unexpected_deaths": observer.unexpected_deaths,
        "covered": dict(sorted(covered.items())),
    }


def _spread(seconds: Iterable[float]) -> dict[str, float]:
    times = sorted(seconds)
    if not times:
        return {"n": 0}
    return {"n": len(times), "median": round(statistics.median(times), 1), "max": round(times[-1], 1)}
