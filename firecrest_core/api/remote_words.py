"""What the words of a command on the system mean: the server runs coreutils over SSH and passes on their errors.

Only the command's own lines count. Before them, sshd and the shell's profile may have written lines of their own: if a
home directory is not mounted, each command begins with ``Could not chdir to home directory …: No such file or
directory``. The server's status does not count either, because it searches the whole text for such words.
"""

from __future__ import annotations

import re

from firecrest_core.errors import (
    FirecRESTError,
    RemotePathExists,
    RemotePathNotFound,
    RemotePathRefused,
    RequestRejected,
    ServerFault,
)

_FAILURE = re.compile(r"^Remote process failed with exit status:\S+ and error message:(?P<text>.*)$", re.DOTALL)

# The programs of FirecREST's commands, and the shell that runs them. A shell's line has a number only for the command.
_OWN = re.compile(
    r"(?:\S*/)?(?:ls|ln|stat|mkdir|rm|mv|cp|base64|dd|head|tail|tar|gzip|sha256sum|file|chmod|chown|timeout): "
    r"|(?:ba|da|k)?sh: (?:-c: )?(?:line )?\d+: |zsh:\d+: "
)

# What passes without a change of the request: the file system's server or the node is in trouble (errno(3) of Linux).
_OUTAGE = re.compile(
    r"stale file handle|input/output error|transport endpoint|timed out|temporarily unavailable|interrupted system call"
    r"|cannot allocate memory|host is down|no route to host|connection (refused|reset)|resource busy|text file busy"
    r"|fork|identifier removed|communication error on send",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"no such file or directory", re.IGNORECASE)
_EXISTS = re.compile(r"file exists", re.IGNORECASE)
_REFUSED = re.compile(
    r"permission denied|is a directory|not a directory|not permitted|read-only file system|file name too long"
    r"|directory not empty|too many levels of symbolic links|are the same file",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left|disk quota exceeded|file too large", re.IGNORECASE)
# What the request itself has wrong.
_WRONG = re.compile(
    r"syntax error|unexpected eof|unmatched|invalid|argument list too long|does not look like a tar archive"
    r"|not in gzip format|unexpected end of file|unrecognized|unknown option|command not found",
    re.IGNORECASE,
)


def remote_text(message: str) -> str | None:
    """Return what a command on the system has written to its standard error.

    :param message: the server's error message
    :returns: ``None`` if no command failed
    """
    match = _FAILURE.match(message)
    return None if match is None else match["text"].strip()


def remote_error(text: str, what: str) -> FirecRESTError:
    """Return the error for a command that failed on the system.

    :param text: its standard error
    :param what: the request in words, for example ``GET /filesystem/daint/ops/ls``
    """
    own = [line for line in text.splitlines() if _OWN.match(line)]
    summary = f"{what}: {'; '.join(own) or text}"
    # The reason follows the last colon, after quoted paths. In zsh it comes first.
    reason = "\n".join(line if line.startswith("zsh:") else line.rpartition(": ")[2] for line in own)
    if _OUTAGE.search(reason):
        return ServerFault(f"{summary}. The file system or the login node is in trouble.")
    if _REFUSED.search(reason):
        return RemotePathRefused(f"{summary}. Check the path and its permissions.")
    if _FULL.search(reason):
        return RemotePathRefused(f"{summary}. Make room on the file system.")
    if _EXISTS.search(reason):
        return RemotePathExists(f"{summary}. Choose another name, or remove it first.")
    if _NOT_FOUND.search(reason):
        return RemotePathNotFound(f"{summary}. Check the path, or create it first.")
    if _WRONG.search("\n".join(own)):
        return RequestRejected(summary)
    return ServerFault(f"{summary}. These words do not say what is wrong with the request, so they may pass.")
