from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from firecrest_core.sync import run


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_without_a_loop() -> None:
    assert run(answer()) == 42


async def test_within_a_loop() -> None:
    assert run(answer()) == 42


def test_errors_pass() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(fail())


def test_dag_files_pay_for_no_http_client() -> None:
    """A DAG file imports the specification of a job, and is parsed every few seconds."""
    code = """
import sys
import firecrest_core.errors
from firecrest_core import Connection, JobSpec
heavy = {"httpx", "firecrest", "pydantic", "tenacity", "requests"} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
