"""A replacement for `srun` inside a job. It runs the command once and records it as a step.

It is started as a script and imports only the standard library. It ignores the options of srun.
"""

# pathlib would double the time that a step takes to start.
# ruff: noqa: PTH105, PTH118, PTH119, T201

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

#: Short options of srun that take a value.
SHORT_WITH_VALUE = "ABcCDdeGiJLmMNnopqrStTUwWxzZ"
FLAGS = {
    "allocation",
    "contiguous",
    "disable-status",
    "exact",
    "exclusive",
    "help",
    "hold",
    "immediate",
    "interactive",
    "kill-on-bad-exit",
    "label",
    "multi-prog",
    "no-allocate",
    "no-kill",
    "overcommit",
    "overlap",
    "oversubscribe",
    "preserve-env",
    "propagate",
    "pty",
    "quiet",
    "quit-on-interrupt",
    "requeue",
    "resv-ports",
    "spread-job",
    "test-only",
    "unbuffered",
    "use-min-nodes",
    "verbose",
    "wait-for-children",
    "whole",
}


def command_of(arguments: list[str]) -> list[str]:
    """Return the command after srun's own options."""
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if word == "--":
            return arguments[position + 1 :]
        if not word.startswith("-") or word == "-":
            break
        position += 1
        if word.startswith("--"):
            takes_next = "=" not in word and word[2:] not in FLAGS
        else:
            takes_next = len(word) == 2 and word[1] in SHORT_WITH_VALUE
        position += takes_next
    return arguments[position:]


def claim_step(directory: str) -> tuple[str, int]:
    """Take the next free step number. Two steps that begin at the same time get different numbers."""
    number = 0
    while True:
        path = os.path.join(directory, f"{number}.json")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            return path, number
        except FileExistsError:
            number += 1


def record(path: str, **fields: object) -> None:
    """Write a step's file atomically."""
    with open(f"{path}.new", "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(fields, file)
    os.replace(f"{path}.new", path)


def main() -> int:
    """Run the step. Returns its exit status as a shell would."""
    command = command_of(sys.argv[1:])
    if not command:
        print("srun: fatal: No command given to execute.", file=sys.stderr)
        return 1
    name, start = os.path.basename(command[0]), time.time()
    path, number = claim_step(os.environ["FIRECREST_LOCAL_STEPS"])
    environment = os.environ | {
        "SLURM_STEP_ID": str(number),
        "SLURM_STEPID": str(number),
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        record(path, name=name, start=start, end=time.time(), exit_code=2, signal=0, pid=0)
        print(f"slurmstepd: error: execve(): {command[0]}: {error.strerror}", file=sys.stderr)
        return 2
    # Signals to the job reach the command through its process group. The shim ignores them, so that it can
    # record the end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    record(path, name=name, start=start, end=None, exit_code=0, signal=0, pid=process.pid)
    status = process.wait()
    code, number = (status, 0) if status >= 0 else (0, -status)
    record(path, name=name, start=start, end=time.time(), exit_code=code, signal=number, pid=process.pid)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
