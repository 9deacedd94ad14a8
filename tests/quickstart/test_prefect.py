"""docs/quickstart-prefect.md, word for word: its blocks are pasted into terminals, in a fresh home and environment."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import httpx
import pytest

from firecrest_local.client_settings import SAVE_BLOCK
from harness.ports import reserved_ports
from tests.quickstart.terminal import Terminal, blocks, exports, wait_until

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "quickstart-prefect.md"


def healthy(api: str) -> bool:
    """Return whether the Prefect server answers."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{api}/health", trust_env=False).is_success
    return False


def test_the_page_saves_the_block_as_firecrest_local_says() -> None:
    assert SAVE_BLOCK in blocks(PAGE)[-1][1].splitlines()


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1800)  # pip fetches all of Prefect
def test_page(home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        # The page's server takes Prefect's port, which another one on this machine may have.
        (port,) = stack.enter_context(reserved_ports(1))
        environment |= {
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
            # The versions that CI uses: the newest of each may be broken for a day.
            "PIP_CONSTRAINT": str(ROOT / "constraints" / "prefect.txt"),
        }
        first, second, third = (
            stack.enter_context(Terminal(f"Terminal {number}", tmp_path, environment)) for number in (1, 2, 3)
        )
        install, firecrest, server, run, result, block = blocks(PAGE)

        assert install[0] == firecrest[0] == first.name
        first.run(install[1])
        first.paste(firecrest[1])

        assert server[0] == second.name
        second.paste(server[1])
        assert "http://127.0.0.1:4200/api" in run[1]
        api = f"http://127.0.0.1:{port}/api"
        wait_until(lambda: healthy(api), "Prefect answers", [first, second])

        assert run[0] == result[0] == block[0] == third.name
        third.paste(exports(first))
        third.run(run[1].replace("http://127.0.0.1:4200/api", api))
        assert third.run(result[1]).strip() == socket.gethostname()
        runs = httpx.post(f"{api}/flow_runs/filter", json={}, trust_env=False).json()
        assert [run["state"]["type"] for run in runs] == ["COMPLETED", "COMPLETED"]  # hello_hpc, and run_job in it
        tables = httpx.post(f"{api}/artifacts/latest/filter", json={}, trust_env=False).json()
        assert "firecrest-jobs" in [one["key"] for one in tables]

        shown = third.run(block[1])
        assert re.search(r"name='[^']+'", shown)
        left = [path.name for path in home.iterdir() if "firecrest" in path.name or not path.name.startswith(".")]
        assert left == ["firecrest-quickstart"]
