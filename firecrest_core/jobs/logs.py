"""The last lines of a job's output, short, printable and without secrets, for a log or a message.

The output may contain anything: progress bars, colours, core dumps, a line of a gigabyte, a presigned URL.
"""

from __future__ import annotations

import logging
import re

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# How much of the end of a file is read.
_BYTES = 16 * 1024
_LONGEST_LINE = 500

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")  # ECMA-48: CSI, OSC, others
_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\xa0-\U0010ffff]")

# Secrets that must not get into a log, which more people may read than the output. A name such as "…token" counts only
# with a value of eight characters or more.
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

    :param system: where the job is
    :param path: absolute path of the output file
    :param lines: how many lines at most
    :raises RemotePathNotFound: the file does not exist (yet)
    """
    # Limited by bytes, because the last line alone may be as long as the file.
    text = await system.tail(path, num_bytes=_BYTES)
    return last_lines(text, lines, cut=len(text.encode()) >= _BYTES)


async def read_since(system: System, path: str, offset: int, size: int, lines: int, *, last: bool) -> tuple[str, int]:
    """Return the last lines that a job has written since the caller last read its output.

    :param system: where the job is
    :param path: absolute path of the output file
    :param offset: how many bytes the caller has read
    :param size: current size of the output in bytes
    :param lines: how many lines at most
    :param last: the job has ended, so an incomplete last line is returned, too
    :returns: the new lines, and the offset for the next call. If older new lines were left out, the first line is an
        ellipsis.
    """
    left_out = max(0, size - _BYTES - offset)
    start = offset + left_out
    new = (await system.read_from(path, start)).encode()[: size - start]
    if not last and len(new) < _BYTES:
        new = new[: new.rfind(b"\n") + 1]
    text = last_lines(new.decode(errors="replace"), lines, cut=left_out > 0).rstrip("\n")
    if left_out or new.count(b"\n") > lines:
        text = f"…\n{text}"
    return (text, start + len(new)) if new else ("", offset)


async def output_tails(system: System, result: JobResult, lines: int = 20) -> tuple[str, str]:
    """Return the last lines of standard output and of standard error, with secrets removed.

    For an array, they are those of :attr:`~firecrest_core.result.JobResult.reported_element`. A file that cannot be
    read gives an empty text, because reporting a job's result must not fail over its output.

    :param system: where the job ran
    :param result: how it ended
    :param lines: how many lines of each at most
    :returns: two texts; the second is empty if both streams go to one file
    """
    tails = []
    for path in dict.fromkeys(filter(None, result.output_paths())):
        try:
            tails.append(await read_tail(system, path, lines))
        except errors.FirecRESTError as error:
            log.debug("The end of %s cannot be read: %s", path, error)
            tails.append("")
    return (tails[0] if tails else "", tails[1] if len(tails) > 1 else "")


def last_lines(text: str, lines: int, *, cut: bool = False) -> str:
    """Return the last lines of ``text``, printable, shortened and with secrets removed.

    :param text: the end of an output
    :param lines: how many lines at most
    :param cut: ``text`` may begin in the middle of a line, so its first line is dropped
    """
    rows = text.split("\n")
    if cut and len(rows) > 1:
        del rows[0]
    kept = rows[-lines - 1 :] if rows[-1] == "" else rows[-lines:]
    return "\n".join(_row(row) for row in kept)


def _row(row: str) -> str:
    # A progress bar overwrites its line many times. Keep the last version.
    row = row.rstrip("\r").rpartition("\r")[2]
    row = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", row))
    for secret, replacement in _SECRETS:
        row = secret.sub(replacement, row)
    return row if len(row) <= _LONGEST_LINE else f"{row[:_LONGEST_LINE]}…"
