"""The example DAGs and flows, which the wheel holds."""

from __future__ import annotations

import shutil
from pathlib import Path

_FOLDERS = ("example_dags", "example_flows")
_PACKAGE = Path(__file__).parent
# In a checkout of the repository the examples stand beside the package; pyproject.toml puts them into it for the wheel.
_SOURCE = _PACKAGE / "examples" if (_PACKAGE / "examples").is_dir() else _PACKAGE.parent


def copy_examples(target: Path) -> list[Path]:
    """Copy the examples. The flows share data and scripts with the DAGs, so both are copied, side by side.

    :param target: a directory; made when missing.
    :returns: the folders that were made.
    :raises FileExistsError: one of them is there already. Nothing is copied then.
    """
    folders = [target / name for name in _FOLDERS]
    for folder in folders:
        if folder.exists() or folder.is_symlink():
            raise FileExistsError(f"{folder} is there already. Remove it, or choose another directory")
    target.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        shutil.copytree(_SOURCE / folder.name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folders
