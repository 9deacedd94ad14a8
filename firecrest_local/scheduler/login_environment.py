"""The environment with which a job begins, like that of a login on the cluster."""

from __future__ import annotations

import os
from pathlib import Path

#: Variables that jobs inherit from the server. The others stay behind, since they may hold secrets.
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
    """Return the variables of a login shell.

    :param home: the user's home directory.
    :param user: the user's name.
    """
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return variables | {"HOME": str(home), "USER": user, "LOGNAME": user}
