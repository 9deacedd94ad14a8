"""The names of systems, which become segments of the paths that requests go to."""

from __future__ import annotations

import re

from firecrest_core.errors import ConfigurationError

_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")


def check_system_name(name: str) -> str:
    """Return the name of a system, without blanks around it.

    Everything that has a meaning in a URL is refused. Otherwise the name ``../filesystem/daint/ops/rm?path=…&x=`` would
    turn the cancelling of a job into the removal of files.

    :param name: as a user, an engine or a server gives it, for example ``daint``
    :raises ConfigurationError: it cannot be the name of a system
    """
    bare = name.strip() if isinstance(name, str) else ""
    if not _NAME.fullmatch(bare):
        shown = repr(name)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise ConfigurationError(
            f"system: {shown} is not the name of a system. Give a name of letters, digits, '_', '-' and '.', such as "
            "daint."
        )
    return bare
