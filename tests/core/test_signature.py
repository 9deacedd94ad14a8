"""Who has signed a job record: only somebody with the connection's secret, and only for this very content."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firecrest_core.connection import Connection
from firecrest_core.jobs import signature
from firecrest_core.jobs.signature import KnownSignatures, is_signed, sign

CONNECTION = Connection(url="https://f7t", token_url="https://idp", client_id="me", client_secret="a secret")
ROTATED = replace(CONNECTION, client_secret="another")
CONTENT = (["dag", "run", "task", -1], "daint", [{"system": "daint", "job_id": "57"}])


def test_what_was_signed_is_signed() -> None:
    assert is_signed(CONNECTION, sign(CONNECTION, *CONTENT), *CONTENT)


def test_the_order_of_fields_does_not_matter() -> None:
    assert sign(CONNECTION, {"a": 1, "b": 2}) == sign(CONNECTION, {"b": 2, "a": 1})


@pytest.mark.parametrize(
    "other",
    [
        (["dag", "run", "task", 0], *CONTENT[1:]),
        (CONTENT[0], "eiger", CONTENT[2]),
        (*CONTENT[:2], [{"system": "daint", "job_id": "58"}]),
        CONTENT[:2],
        (*CONTENT, None),
    ],
)
def test_other_content_is_not(other: tuple[object, ...]) -> None:
    assert not is_signed(CONNECTION, sign(CONNECTION, *CONTENT), *other)


@pytest.mark.parametrize("forged", ["", "0" * 64, "é", sign(ROTATED, *CONTENT)])
def test_other_signatures_are_wrong(forged: str) -> None:
    assert not is_signed(CONNECTION, forged, *CONTENT)


def test_a_signature_does_not_show_the_secret() -> None:
    secret = CONNECTION.secret.get_secret_value()
    assert secret not in sign(CONNECTION, secret)


def test_what_was_right_before_stays_right_when_the_secret_is_changed() -> None:
    known, signed = KnownSignatures(), sign(CONNECTION, *CONTENT)
    assert not known.check(ROTATED, signed, *CONTENT)
    assert known.check(CONNECTION, signed, *CONTENT)
    assert known.check(ROTATED, signed, *CONTENT)
    assert not known.check(ROTATED, signed, *CONTENT[:2])
    assert not known.check(ROTATED, "", *CONTENT)


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "_MOST_KNOWN", 2)
    known = KnownSignatures()
    for number in range(3):
        assert known.check(CONNECTION, sign(CONNECTION, number), number)
    assert [known.check(ROTATED, sign(CONNECTION, number), number) for number in range(3)] == [False, True, True]
