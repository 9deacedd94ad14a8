"""The last lines of a job's output, short, printable and without secrets, for a log or a message.

The output may contain anything: progress bars, colours, core dumps, a line of a gigabyte, a presigned URL.
"""

from __future__ import annotations

import logging
import re

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.hidden_values import without_hidden_values
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# How much of the end of a file is read, and how much if long lines fill that.
_BYTES = 16 * 1024
_MORE_BYTES = 256 * 1024

# Characters of a line that are shown at its beginning and at its end, if it is longer than both together.
_BEGINNING, _END = 300, 200
# Characters at both ends of a line that are searched for secrets. More than a secret has, so that none is cut there.
_SEARCHED = 8 * 1024

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")  # ECMA-48: CSI, OSC, others
_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\xa0-\U0010ffff]")

# Secrets that must not get into a log, which more people may read than the output. A name such as "…token" counts only
# with a value of eight characters or more. No pattern may search the same text again from each of many places in it,
# because an output may hold anything.
_URL = re.compile(r"(?i)https?://[^\s\"'<>]+")
_SIGNED = re.compile(r"(?i)(signature|sig|credential|token|accesskeyid)=")
_SECRETS = (
    (re.compile(r"(\w://)[^\s/@:\"'<>]+:[^\s/@\"'<>]+@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{12,}=*"), r"\1 ***"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "***"),
    # Tokens whose makers gave them a beginning to be found by: GitHub, GitLab, Hugging Face, Slack.
    (re.compile(r"(?<![\w-])(gh[a-z]_|github_pat_|glpat-|hf_|xox[a-z]-)[\w-]{16,}"), r"\1***"),
    (
        re.compile(r"(?i)((?<![\w-])--(?:passwo?r?d|secret|token|(?:api|access|secret)[_-]?key)\s+)[^\s-]\S{7,}"),
        r"\1***",
    ),
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
    text, limit = await system.tail(path, num_bytes=_BYTES), _BYTES
    if len(text.encode()) >= limit and text.count("\n") <= lines:
        try:
            # The server refuses an output that fills its buffer, which has this size.
            more = min(_MORE_BYTES, (await system.info()).max_ops_file_size // 2)
            if more > limit:
                text, limit = await system.tail(path, num_bytes=more), more
        except errors.FirecRESTError as error:
            log.debug("No more of the end of %s can be read: %s", path, error)
    return last_lines(text, lines, cut=len(text.encode()) >= limit)


async def output_tails(system: System, result: JobResult, lines: int = 20) -> tuple[str, str]:
    """Return the last lines of standard output and of standard error, with secrets removed.

    For an array, they are those of :attr:`~firecrest_core.result.JobResult.reported_element`. A file that cannot be
    read gives an empty text, because reporting a job's result must not fail over its output.

    :param system: where the job ran
    :param result: how it ended
    :param lines: how many lines of each at most
    :returns: two texts; the second is empty if both streams go to one file
    """
    stdout, stderr = result.output_paths()
    tails: dict[str | None, str] = {None: ""}
    for path in filter(None, {stdout, stderr}):
        try:
            tails[path] = await read_tail(system, path, lines)
        except errors.FirecRESTError as error:
            log.debug("The end of %s cannot be read: %s", path, error)
            tails[path] = ""
    return tails[stdout], "" if stderr == stdout else tails[stderr]


def last_lines(text: str, lines: int, *, cut: bool = False) -> str:
    """Return the last lines of ``text``, printable, shortened and with secrets removed.

    :param text: the end of an output
    :param lines: how many lines at most
    :param cut: ``text`` may begin in the middle of a line. What is there of that line is dropped, unless there is no
        other line.
    """
    rows = without_hidden_values(text).split("\n")
    if cut and any(row.strip() for row in rows[1:]):
        del rows[0]
        cut = False
    count = lines + 1 if rows[-1] == "" else lines
    cut = cut and len(rows) <= count
    kept = [_row(row) for row in rows[-count:]]
    if cut:
        kept[0] = _end_of_row(rows[0])
    return "\n".join(kept)


def _row(row: str) -> str:
    # A progress bar overwrites its line many times. Keep the last version.
    row = row.rstrip("\r").rpartition("\r")[2]
    if len(row) <= 2 * _SEARCHED:
        left_out, row = 0, _clean(row)
        beginning, end = row, row
    else:
        left_out = len(row) - 2 * _SEARCHED
        beginning, end = _clean(row[:_SEARCHED]), _clean(row[-_SEARCHED:])
        row = beginning + end
    left_out += len(row) - _BEGINNING - _END
    return f"{beginning[:_BEGINNING]}{_gap(left_out)}{end[-_END:]}" if left_out > 0 else row


def _end_of_row(row: str) -> str:
    """Return the end of a line whose beginning was not read."""
    row = row.rstrip("\r").rpartition("\r")[2]
    # A word whose beginning is missing may be a secret that is not recognized any more.
    rest = row.partition(" ")[2] or row[len(row) // 2 :]
    return f"{_gap(None)}{_clean(rest[-_SEARCHED:])[-_END:]}"


def _gap(characters: int | None) -> str:
    return "[…]" if characters is None else f"[… {characters:,} characters left out …]"


def _clean(row: str) -> str:
    row = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", row))
    row = _URL.sub(lambda url: _without_signature(url[0]), row)
    for secret, replacement in _SECRETS:
        row = secret.sub(replacement, row)
    return row


def _without_signature(url: str) -> str:
    address, mark, query = url.partition("?")
    return f"{address}{mark}***" if _SIGNED.search(query) else url
