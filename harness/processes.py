"""Finding and killing processes with all of their descendants."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

import psutil


def related_processes(leaders: Collection[int], known: Collection[psutil.Process] = ()) -> set[psutil.Process]:
    """Find all living processes that descend from the leaders or share a session with one of them.

    :param leaders: process ids
    :param known: processes found before; their sessions and descendants are included
    """
    sessions = {*leaders, *(process.pid for process in known)}
    members = set(known)
    for process in psutil.process_iter():
        try:
            if process.pid in sessions or os.getsid(process.pid) in sessions:
                members.add(process)
        except (ProcessLookupError, PermissionError):
            continue
    for process in list(members):
        try:
            members.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return {process for process in members if _is_alive(process)}


def kill(processes: Collection[psutil.Process]) -> None:
    """Kill the processes and wait up to a second until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=1)


def kill_descendants() -> None:
    """Kill all processes that descend from this one."""
    while children := [child for child in psutil.Process().children(recursive=True) if _is_alive(child)]:
        kill(children)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
