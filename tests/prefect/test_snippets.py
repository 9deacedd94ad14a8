"""The snippets that Prefect's page of a block shows: pasted into a file, they run in ordinary and in async flows."""

from __future__ import annotations

import asyncio
import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block

from prefect_firecrest import FirecRESTCredentials, FirecRESTJob


def flows(block: type[Block], path: Path) -> dict[str, Any]:
    """Return the flows of a block's snippet, for the block `snippet`."""
    snippet = block.get_code_example()
    assert snippet is not None
    [text] = re.findall(r"^```python\n(.*?)^```", snippet, re.DOTALL | re.MULTILINE)
    path.write_text(text.replace("BLOCK_NAME", "snippet"))
    return {name: flow for name, flow in runpy.run_path(str(path)).items() if hasattr(flow, "fn")}


@pytest.mark.parametrize(("block", "names"), [(FirecRESTCredentials, "home ahome"), (FirecRESTJob, "compute acompute")])
def test_snippet(block: type[Block], names: str, credentials: FirecRESTCredentials, make: Any, tmp_path: Path) -> None:
    credentials.save("snippet", overwrite=True)
    make("true").save("snippet", overwrite=True)
    own = {name: flow for name, flow in flows(block, tmp_path / "snippet.py").items() if name in names.split()}
    assert sorted(own) == sorted(names.split())
    for name, flow in own.items():
        assert inspect.iscoroutinefunction(flow.fn) is name.startswith("a")
        result = asyncio.run(flow()) if name.startswith("a") else flow()
        if block is FirecRESTJob:
            assert result.succeeded
