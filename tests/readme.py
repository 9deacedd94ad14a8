"""The programs in README.md, as files that tests can import."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

README = Path(__file__).parent.parent / "README.md"


def load_program(word: str, path: Path, changes: Mapping[str, str]) -> ModuleType:
    """Write the one Python block with a word in it to a file, and import it.

    :param word: for example ``DAG(``
    :param path: the file
    :param changes: texts of the block, and what stands there instead
    """
    [program] = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if word in block]
    for old, new in changes.items():
        assert old in program
        program = program.replace(old, new)
    path.write_text(program)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
