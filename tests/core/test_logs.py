"""The last lines of an output, as people see them."""

from __future__ import annotations

import pytest

from firecrest_core.jobs.logs import last_lines


def test_the_last_lines() -> None:
    assert last_lines("a\nb\nc\n", 2) == "b\nc\n"
    assert last_lines("a\nb\nc", 2) == "b\nc"
    assert last_lines("", 2) == ""
    assert last_lines("the end of a line\nwhole\n", 20, cut=True) == "whole\n"
    assert last_lines("one line alone", 20, cut=True) == "one line alone"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("energy -15.84\tRy", "energy -15.84\tRy"),
        ("größer: ∆E ≤ 0", "größer: ∆E ≤ 0"),
        ("1 %\r50 %\r100 %", "100 %"),
        ("done\r", "done"),
        ("\x1b[1;31mError\x1b[0m: no basis set", "Error: no basis set"),
        ("\x00\x07ELF", "��ELF"),
        ("x" * 10_000, "x" * 500 + "…"),
        ("GET https://s3.example.org/k?X-Amz-Signature=abc&x=1 failed", "GET https://s3.example.org/k?*** failed"),
        ("https://blob.example.net/c/f?sv=1&sig=abc%3D", "https://blob.example.net/c/f?***"),
        ("https://example.org/page?number=3", "https://example.org/page?number=3"),
        ("clone https://me:hunter2@git.example.org/x.git", "clone https://***@git.example.org/x.git"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer ***"),
        ("token is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl.", "token is ***."),
        ('{"client_secret": "abcdefgh1"}', '{"client_secret": "***"}'),
        ("export HF_TOKEN=hf_abcdefghij", "export HF_TOKEN=***"),
        ("max_token=128 tokens: 40000000", "max_token=128 tokens: 40000000"),
    ],
)  # fmt: skip
def test_a_line(written: str, shown: str) -> None:
    assert last_lines(written, 1) == shown
