"""The port of a root. It outlives a restart, so that what clients were told of the server stays right."""

from __future__ import annotations

from pathlib import Path

from firecrest_local.private_files import write_private

_NAME = "port"


def read_port(state: Path) -> int:
    """Return the port that the last server of this root had.

    :param state: the server's state directory.
    :returns: the port; 0 if there was no server yet.
    """
    try:
        return int((state / _NAME).read_text())
    except FileNotFoundError:
        return 0


def keep_port(state: Path, port: int) -> None:
    """Write down the port for the next server of this root.

    :param state: the server's state directory, which exists.
    :param port: the port that this server has.
    """
    write_private(state / _NAME, str(port))
