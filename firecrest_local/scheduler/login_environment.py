"""The environment that a job begins with, as a login on the cluster would give it."""

from __future__ import annotations

import os
from pathlib import Path

#: Variables of the server that jobs get; a server's environment may hold secrets, so all others stay behind.
INHERITED = (
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "SHELL",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "MODULEPATH",
    "MODULESHOME",
    "SSL_CERT_FILE",
)


def login_environment(home: Path, user: str) -> dict[str, str]:
    """The variables of a login shell.

    Parameters:
        home: the user's home directory.
        user: the user's name.
    """
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return variables | {"HOME": str(home), "USER": user, "LOGNAME": user}
