"""The how-to pages' blocks for Prefect can be pasted as they are."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Flow, Task

from tests.howto import snippets

SNIPPETS = snippets(prefect=True)


@pytest.mark.parametrize("code", SNIPPETS.values(), ids=SNIPPETS.keys())
def test_block_works(code: str) -> None:
    names: dict[str, Any] = {"__name__": "block"}
    exec(code, names)
    assert any(isinstance(value, Flow | Task) for value in names.values())
