"""Which requests a plan chooses; nothing is served here."""

from __future__ import annotations

from typing import Any

import pytest

from firecrest_local.faults.plan import Faults, Plan


def decide(rules: list[dict[str, Any]], requests: int = 10, *, seed: int = 0, path: str = "/a") -> list[str | None]:
    """The labels of the rules that strike equal requests, one a second."""
    faults = Faults(Plan.model_validate({"seed": seed, "rules": rules}), began=100.0)
    struck = [faults.decide("GET", path, None, 100.0 + second) for second in range(requests)]
    return [rule and rule.label for rule in struck]


def positions(rule: dict[str, Any], **keywords: Any) -> list[int]:
    return [number for number, label in enumerate(decide([{"fault": "reset", **rule}], **keywords), 1) if label]


@pytest.mark.parametrize(
    ("rule", "struck"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ({"first": 3}, [1, 2, 3]),
        ({"nth": [2, 5]}, [2, 5]),
        ({"start": 4}, [5, 6, 7, 8, 9, 10]),
        ({"start": 4, "duration": 2}, [5, 6]),
        # Positions begin with the time.
        ({"start": 4, "first": 1}, [5]),
        ({"method": "get", "first": 1}, [1]),
        ({"method": "POST"}, []),
    ],
)
def test_which_of_many(rule: dict[str, Any], struck: list[int]) -> None:
    assert positions(rule) == struck


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


def test_chance_is_seeded_and_a_rules_own() -> None:
    rare = {"fault": "reset", "probability": 0.3}
    alone = decide([rare], 200, seed=5)
    assert 30 < alone.count("reset") < 90
    assert decide([rare], 200, seed=5) == alone
    assert decide([rare], 200, seed=6) != alone
    other = {"fault": "lose_answer", "probability": 0.3}
    assert [label == "reset" for label in decide([rare, other], 200, seed=5)] == [label == "reset" for label in alone]


def test_first_rule_that_strikes_wins() -> None:
    rules = [{"fault": "reset", "nth": [2]}, {"fault": "lose_answer", "first": 3}]
    assert decide(rules, 4) == ["lose_answer", "reset", "lose_answer", None]


def test_refused_tokens_stay_refused() -> None:
    faults = Faults(Plan.model_validate({"rules": [{"fault": "early_token_expiry", "nth": [2]}]}), began=0.0)
    asked = [None, "old", "old", "old", "new", None]
    struck = [faults.decide("GET", "/a", token, 0.0) is not None for token in asked]
    assert struck == [False, False, True, True, False, False]


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
