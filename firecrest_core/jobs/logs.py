"""The last lines of a job's output, fit for a log or a message: short, printable, and without secrets.

A job writes what it likes: progress bars, colours, core dumps, a line of a gigabyte, the URL that it downloads from.
"""

from __future__ import annotations

import logging
import re

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# Enough for the last lines, whatever the size of the file.
_BYTES = 16 * 1024
_LONGEST_LINE = 500

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")  # ECMA-48: CSI, OSC, others
_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\xa0-\U0010ffff]")

# What must not be read by all who may read a log. Names that only end like one of a secret need a value that looks it.
_SECRETS = (
    (
        re.compile(r"(?i)(https?://[^\s\"'<>?]+\?)[^\s\"'<>]*(signature|sig|credential|token|accesskeyid)=[^\s\"'<>]*"),
        r"\1***",
    ),
    (re.compile(r"(\w://)[^\s/@\"'<>]+:[^\s/@\"'<>]+@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{12,}=*"), r"\1 ***"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "***"),
    (
        re.compile(
            r"(?i)((?:passwo?r?d|secret|token|(?:api|access|secret)_?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]{8,}"
        ),
        r"\1***",
    ),
)


async def read_tail(system: System, path: str, lines: int) -> str:
    """Return the last lines of a job's output.

    :raises RemotePathNotFound: there is no output (yet)
    """
    # By bytes: the last line alone may be as long as the file.
    text = await system.tail(path, num_bytes=_BYTES)
    return excerpt(text, lines, cut=len(text.encode()) >= _BYTES)


async def read_since(system: System, path: str, offset: int, size: int, lines: int, *, last: bool) -> tuple[str, int]:
    """Return what a job has written since a byte of its output, at most the last lines of it.

    :param offset: where the caller has read to, in bytes
    :param size: bytes that the output has now
    :param last: the job has ended, so a line that is not complete never will be
    :returns: the new lines, and where to go on. Of an output that grew by more, only the end is returned, behind a line
        with an ellipsis.
    """
    left_out = max(0, size - _BYTES - offset)
    start = offset + left_out
    new = (await system.read_from(path, start)).encode()[: size - start]
    if not last and len(new) < _BYTES:
        new = new[: new.rfind(b"\n") + 1]
    text = excerpt(new.decode(errors="replace"), lines, cut=left_out > 0).rstrip("\n")
    if left_out or new.count(b"\n") > lines:
        text = f"…\n{text}"
    return (text, start + len(new)) if new else ("", offset)


async def output_tails(system: System, result: JobResult, lines: int = 20) -> tuple[str, str]:
    """Return the last lines of standard output and of standard error, without what looks like a secret.

    The second is empty where both go to one file. Of an array, they are those of
    :attr:`~firecrest_core.result.JobResult.reported_element`. What cannot be read is empty: a job's result must not
    fail for its last lines.
    """
    tails = []
    for path in dict.fromkeys(filter(None, result.output_paths())):
        try:
            tails.append(await read_tail(system, path, lines))
        except errors.FirecRESTError as error:
            log.debug("The end of %s cannot be read: %s", path, error)
            tails.append("")
    return (tails[0] if tails else "", tails[1] if len(tails) > 1 else "")


def excerpt(text: str, lines: int, *, cut: bool = False) -> str:
    """Return the last lines of ``text``.

    :param cut: ``text`` begins in the middle of something, so its first line may be the end of one
    """
    rows = text.split("\n")
    if cut and len(rows) > 1:
        del rows[0]
    kept = rows[-lines - 1 :] if rows[-1] == "" else rows[-lines:]
    return "\n".join(_row(row) for row in kept)


def _row(row: str) -> str:
    # A progress bar writes its line again and again; the last time counts.
    row = row.rstrip("\r").rpartition("\r")[2]
    row = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", row))
    for secret, instead in _SECRETS:
        row = secret.sub(instead, row)
    return row if len(row) <= _LONGEST_LINE else f"{row[:_LONGEST_LINE]}…"
