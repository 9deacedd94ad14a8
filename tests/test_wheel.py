"""What the wheel holds beside the code: pages in Airflow's UI, and what `firecrest-local --examples` copies."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = {
    file.relative_to(ROOT): file.read_bytes()
    for folder in ("example_dags", "example_flows")
    for file in (ROOT / folder).rglob("*")
    if file.is_file() and file.suffix != ".pyc"
}


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def copy(unpacked: Path | None, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of the wheel, or that of the checkout."""
    words = [sys.executable, "-m", "firecrest_local", "--examples", str(directory)]
    package = ROOT if unpacked is None else unpacked
    return subprocess.run(words, cwd=package, env={"PYTHONPATH": str(package)}, capture_output=True, text=True)


def files(directory: Path) -> dict[Path, bytes]:
    return {file.relative_to(directory): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_wheel_adds_nothing_beside_its_packages(unpacked: Path) -> None:
    found = {one.name for one in unpacked.iterdir() if not one.name.endswith(".dist-info")}
    assert found == {"airflow_provider_firecrest", "firecrest_core", "firecrest_local", "prefect_firecrest"}


def test_wheel_has_what_the_web_app_serves(unpacked: Path) -> None:
    web = Path("airflow_provider_firecrest/web")
    served = {path: file for path, file in files(ROOT / web).items() if path.parts[0] in {"static", "templates"}}
    assert len(served) > 5
    assert {path: file for path, file in files(unpacked / web).items() if path in served} == served


@pytest.mark.parametrize("installed", [True, False])
def test_examples_are_copied(installed: bool, unpacked: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    done = copy(unpacked if installed else None, target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(target / "example_dags"), str(target / "example_flows")]
    assert files(target) == EXAMPLES


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    (tmp_path / "example_flows").mkdir()
    (tmp_path / "example_flows" / "mine.py").write_text("mine")
    done = copy(None, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"firecrest-local: no examples in {tmp_path}: {tmp_path / 'example_flows'} is there already. "
        "Remove it, or choose another directory"
    ]
    assert files(tmp_path) == {Path("example_flows/mine.py"): b"mine"}
