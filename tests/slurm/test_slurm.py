"""The Slurm of the harness: two beside each other, nothing left over, missing packages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness import slurm as module
from harness.errors import SlurmNotInstalled
from harness.slurm import Slurm


def test_two_run_beside_each_other_and_leave_no_process(slurm: Slurm, tmp_path: Path) -> None:
    script = "sleep 1000 & setsid sleep 1000 & echo $! > detached; echo $$ > script; wait; sleep 1000"
    with Slurm(tmp_path / "second") as second:
        slurm.command("sbatch", "--wait", f"--chdir={tmp_path}", "--job-name=first", "--wrap", "true")
        second.command("sbatch", f"--chdir={tmp_path}", "--job-name=second", "--wrap", script)
        # A step of the job shows that jobs find their own Slurm.
        wait = "until [ -s script ]; do sleep 0.1; done; srun true; echo $SLURM_JOB_ACCOUNT > account"
        second.command("sbatch", "--wait", f"--chdir={tmp_path}", "--wrap", wait)
        assert second.command("squeue", "-h", "-o", "%j") == "second\n"
        pids = [int((tmp_path / name).read_text()) for name in ("detached", "script")]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert (tmp_path / "account").read_text() == "test\n"
    assert slurm.command("sinfo", "-h", "-o", "%T").split()[0] == "idle"
    left = list(processes())
    assert not [words for _, words in left if any(str(second.home) in word for word in words)]
    assert not [pid for pid, _ in left if pid in pids]


def processes() -> Iterator[tuple[int, list[str]]]:
    """Ids and words of all processes that live; those of others may end at any moment."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process.pid, process.cmdline()


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(
        SlurmNotInstalled, match="apt-get install mariadb-server munge slurm-client slurmctld slurmd slurmdbd"
    ):
        Slurm(tmp_path / "slurm").__enter__()
    assert not (tmp_path / "slurm").exists()
