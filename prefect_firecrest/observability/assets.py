"""Files that were fetched, as assets: where they came from, their size and their checksum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_firecrest.prefect_internals import current_task_run, emit_materialization, pass_downstream

if TYPE_CHECKING:
    from prefect.assets import Asset

    from firecrest_core.transfer import Transferred

# What Prefect takes in the key of an asset.
_LONGEST = 512
_REFUSED = re.compile(r"[\s#?&%\"'<>\[\]{}|\\^`\x00-\x1f]")


def local_asset(path: str | Path) -> Asset:
    """Return the asset of a file on our side: its ``file://`` URI, or that of the object store that it is in."""
    text = str(path)
    return _asset(text if re.match(r"[a-z0-9]+://", text) else f"file://{Path(text).absolute()}")


def remote_asset(system: str, path: str) -> Asset:
    """Return the asset of a file on a system: ``firecrest://<system>/<path>``."""
    return _asset(f"firecrest://{system}{path}")


def report_fetched(system: str, files: Sequence[Transferred]) -> None:
    """Tell Prefect that files have arrived: each one was made from one on the system.

    Tasks that take the result of the task that fetched them depend on them. Outside of a task, nothing is reported.
    """
    task_run = current_task_run()
    if task_run is None:
        return
    local = {file.local: local_asset(file.local) for file in files}
    for file in files:
        emit_materialization(
            local[file.local],
            remote_asset(system, file.remote),
            {"size": file.size, "sha256": file.sha256, "from": file.remote},
        )
    pass_downstream(local.values(), task_run.id)


def _asset(uri: str) -> Asset:
    from prefect.assets import Asset

    return Asset(key=_REFUSED.sub("_", uri)[:_LONGEST])
