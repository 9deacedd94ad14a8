"""The last lines of a job's output, fit for a log or a message: short, printable, and without secrets.

A job writes what it likes: progress bars, colours, core dumps, a line of a gigabyte, the URL that it downloads from.
"""

from __future__ import annotations

import re

# Enough for the last lines, whatever the size of the file.
BYTES = 16 * 1024
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
