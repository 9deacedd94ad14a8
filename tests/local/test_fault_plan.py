"""Which requests the rules of a plan select. No server runs here."""

from __future__ import annotations

from typing import Any

import pytest

from firecrest_local.faults.plan import Plan
from firecrest_local.faults.request import RequestHead
from firecrest_local.faults.selector import FaultSelector


def select(rules: list[dict[str, Any]], requests: int = 10, *, seed: int = 0, path: str = "/a") -> list[str | None]:
    """Return the labels of the rules that apply to equal requests, one per second."""
    selector = FaultSelector(Plan.model_validate({"seed": seed, "rules": rules}), started=100.0)
    selected = [selector.select(RequestHead("GET", path), 100.0 + second) for second in range(requests)]
    return [rule and rule.label for rule in selected]


def positions(rule: dict[str, Any], **keywords: Any) -> list[int]:
    return [number for number, label in enumerate(select([{"fault": "reset", **rule}], **keywords), 1) if label]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ({"first": 3}, [1, 2, 3]),
        ({"nth": [2, 5]}, [2, 5]),
        ({"start": 4}, [5, 6, 7, 8, 9, 10]),
        ({"start": 4, "duration": 2}, [5, 6]),
        # Positions are counted from the start time.
        ({"start": 4, "first": 1}, [5]),
        ({"method": "get", "first": 1}, [1]),
        ({"method": "POST"}, []),
    ],
)
def test_which_of_many(rule: dict[str, Any], expected: list[int]) -> None:
    assert positions(rule) == expected


@pytest.mark.parametrize(
    ("route", "path", "matches"),
    [
        ("/**", "/", True),
        ("/**", "/a/b", True),
        ("/compute/*/jobs", "/compute/rig/jobs", True),
        ("/compute/*/jobs", "/Compute/Rig/Jobs", True),
        ("/compute/*/jobs", "/compute/rig/jobs/7", False),
        ("/compute/{system_name}/jobs/{job_id}", "/compute/rig/jobs/7", True),
        ("/compute/{system_name}/jobs/{job_id}", "/compute/rig/jobs/7/metadata", False),
        ("/compute/**", "/compute/rig/jobs/7/metadata", True),
        ("/staging/{key:path}", "/staging/a/b/c", True),
        ("/a.b", "/axb", False),
    ],
)
def test_routes(route: str, path: str, matches: bool) -> None:
    assert bool(positions({"route": route}, path=path)) is matches


def test_each_rule_has_its_own_seeded_random_numbers() -> None:
    rare = {"fault": "reset", "probability": 0.3}
    alone = select([rare], 200, seed=5)
    assert 30 < alone.count("reset") < 90
    assert select([rare], 200, seed=5) == alone
    assert select([rare], 200, seed=6) != alone
    other = {"fault": "lose_answer", "probability": 0.3}
    assert [label == "reset" for label in select([rare, other], 200, seed=5)] == [label == "reset" for label in alone]


def test_first_rule_that_applies_wins() -> None:
    rules = [{"fault": "reset", "nth": [2]}, {"fault": "lose_answer", "first": 3}]
    assert select(rules, 4) == ["lose_answer", "reset", "lose_answer", None]


def test_refused_tokens_stay_refused() -> None:
    plan = Plan.model_validate({"rules": [{"fault": "early_token_expiry", "nth": [2]}]})
    selector = FaultSelector(plan, started=0.0)
    tokens = [None, "old", "old", "old", "new", None]
    selected = [selector.select(RequestHead("GET", "/a", token=token), 0.0) is not None for token in tokens]
    assert selected == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    "plan",
    [
        {"rule": []},
        {"rules": [{"fault": "lost"}]},
        {"rules": [{"route": "/a"}]},
        {"rules": [{"fault": "reset", "status": 500}]},
        {"rules": [{"fault": "reset", "route": "a"}]},
        {"rules": [{"fault": "reset", "nth": [0]}]},
        {"rules": [{"fault": "reset", "probability": 1.5}]},
        {"rules": [{"fault": "status", "status": 200}]},
        {"rules": [{"fault": "delay"}]},
        {"rules": [{"fault": "refuse", "route": "/a"}]},
        {"invisible": -1},
    ],
)
def test_wrong_plans(plan: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Plan.model_validate(plan)
