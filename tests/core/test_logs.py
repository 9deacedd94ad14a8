"""The last lines of an output, as people see them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from firecrest_core import errors
from firecrest_core.api.models import SystemInfo
from firecrest_core.jobs.logs import last_lines, read_tail
from firecrest_core.spec.jobspec import JobSpec


def test_the_last_lines() -> None:
    assert last_lines("a\nb\nc\n", 2) == "b\nc\n"
    assert last_lines("a\nb\nc", 2) == "b\nc"
    assert last_lines("", 2) == ""
    assert last_lines("the end of a line\nwhole\n", 20, cut=True) == "whole\n"
    assert last_lines("d of one line alone", 20, cut=True) == "[…]of one line alone"


@given(
    lines=st.lists(st.text("abc é", max_size=60), max_size=30),
    last=st.integers(1, 200_000),
    newline=st.booleans(),
    count=st.integers(1, 25),
)
@example(lines=["Traceback", "Killed"], last=20_000, newline=True, count=20)
@example(lines=["Traceback", "Killed"], last=20_000, newline=False, count=20)
@example(lines=["Traceback"], last=2_000_000, newline=True, count=20)
async def test_the_last_lines_always_show(lines: list[str], last: int, newline: bool, count: int) -> None:
    """However long the last line is, its beginning and end show, and what is written before it."""
    long = "b" * (last // 2) + "e" * (last - last // 2)
    written = "\n".join([*lines, long]) + ("\n" if newline else "")
    shown = await read_tail(File(written), "/out", count)  # type: ignore[arg-type]
    rows = shown.removesuffix("\n").split("\n") if newline else shown.split("\n")
    assert len(rows) <= count
    assert all(len(row) <= 600 for row in rows)
    assert rows[-1].endswith(long[-200:])
    if last < 250_000 - 40 * 60:
        assert rows[-1].startswith(long[:300])
        before = rows[:-1]
        assert before == (lines[-len(before) :] if before else [])
        assert len(before) == min(count - 1, len(lines))


@given(st.text(max_size=40), st.integers(0, 40_000), st.integers(0, 40_000), st.booleans())
def test_no_secret_shows_wherever_a_line_is_cut(noise: str, before: int, after: int, cut: bool) -> None:
    text = f"{noise}\n{'x' * before} token=abcdefgh12345678 {'y' * after}"
    assert "abcdefgh" not in last_lines(text, 20, cut=cut)


@pytest.mark.parametrize("buffer", [1, 20_000, 64_000, 5 * 1024 * 1024])
async def test_the_servers_buffer_hides_no_line(buffer: int) -> None:
    shown = await read_tail(File("first\n" + "x" * 100_000 + "\nno basis set\n", buffer), "/out", 20)  # type: ignore[arg-type]
    assert shown.endswith("\nno basis set\n" if buffer > 10**6 else "no basis set\n")


class File:
    """A system with one file.

    :param buffer: the server refuses an output that fills this many bytes
    """

    def __init__(self, text: str, buffer: int = 5 * 1024 * 1024) -> None:
        self.content, self.buffer = text.encode(), buffer

    async def info(self) -> SystemInfo:
        return SystemInfo.model_validate({"name": "rig", "dataOperation": {"max_ops_file_size": self.buffer}})

    async def tail(self, path: str, *, num_bytes: int) -> str:
        if num_bytes > 16 * 1024 and num_bytes >= self.buffer:
            raise errors.FileTooLarge("Command output exceeded buffer limit.")
        return self.content[-num_bytes:].decode(errors="replace")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("energy -15.84\tRy", "energy -15.84\tRy"),
        ("größer: ∆E ≤ 0", "größer: ∆E ≤ 0"),
        ("1 %\r50 %\r100 %", "100 %"),
        ("done\r", "done"),
        ("\x1b[1;31mError\x1b[0m: no basis set", "Error: no basis set"),
        ("\x00\x07ELF", "��ELF"),
        ("x" * 500, "x" * 500),
        ("a" * 5_000 + "z" * 5_000, "a" * 300 + "[… 9,500 characters left out …]" + "z" * 200),
        ("a" * 50_000 + "z" * 50_000, "a" * 300 + "[… 99,500 characters left out …]" + "z" * 200),
        ("GET https://s3.example.org/k?X-Amz-Signature=abc&x=1 failed", "GET https://s3.example.org/k?*** failed"),
        ("https://blob.example.net/c/f?sv=1&sig=abc%3D", "https://blob.example.net/c/f?***"),
        ("https://example.org/page?number=3", "https://example.org/page?number=3"),
        ("clone https://me:hunter2@git.example.org/x.git", "clone https://***@git.example.org/x.git"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer ***"),
        ("token is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl.", "token is ***."),
        ('{"client_secret": "abcdefgh1"}', '{"client_secret": "***"}'),
        ("export HF_TOKEN=hf_abcdefghij", "export HF_TOKEN=***"),
        ("push with ghp_0123456789abcdefghijklmnop failed", "push with ghp_*** failed"),
        ("hf_0123456789abcdefghijklmnop", "hf_***"),
        ("mysql --password hunter3hunter3 -h db", "mysql --password *** -h db"),
        ("run --token --verbose-output", "run --token --verbose-output"),
        ("max_token=128 tokens: 40000000", "max_token=128 tokens: 40000000"),
    ],
)  # fmt: skip
def test_a_line(written: str, shown: str) -> None:
    assert last_lines(written, 1) == shown


def test_the_hidden_values_of_a_job() -> None:
    job = JobSpec(
        command="env",
        working_dir="/wd",
        environment={
            "API_TOKEN": "value-of-a-token",
            "NEUTRAL": SecretStr("first line\nsecond line"),
            "LONGER": SecretStr("value-of-a-token-too"),
            "SHORT_TOKEN": "8",
            "OMP_PROC_BIND": "spread",
        },
    )
    written = "".join(f"{name}={value}\n" for name, value in (job.secrets | job.plain_environment).items())
    assert last_lines(written, 20) == "API_TOKEN=***\nNEUTRAL=***\nLONGER=***\nSHORT_TOKEN=8\nOMP_PROC_BIND=spread\n"
