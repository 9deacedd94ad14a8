"""Text of others, such as the names of jobs and metrics, where Prefect's UI shows Markdown, which may hold HTML.

Nothing of it may become a link, an image that the viewer's browser loads, or a tag.
"""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"""[\\`*_{}\[\]<>#|~!&$^"'@]""")
# What makes links of bare addresses.
_ADDRESS = re.compile(r":(?=//)|www(?=\.)", re.IGNORECASE)
# No tag, link or image goes on behind it; nobody sees it.
_JOINER = "\N{WORD JOINER}"
_BEGINS = re.compile(r"<|](?=[(\[])")
_LINK = re.compile(r"\[\w+\]\((.*)\)")


def escape(text: str) -> str:
    """Return Markdown that shows a text as it is.

    :param text: any text; its line breaks become blanks, and what cannot be printed is replaced
    """
    line = " ".join(text.split())
    line = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
    return _ADDRESS.sub(rf"\g<0>{_JOINER}", _SPECIAL.sub(r"\\\g<0>", line))


def cell(text: str) -> str:
    """Return a text for a cell of a table: one version of Prefect's UI takes that for Markdown, and the other does not.

    :param text: any text; its line breaks become blanks
    """
    return _BEGINS.sub(rf"\g<0>{_JOINER}", " ".join(text.split()))


def read_cell(cell: str) -> str:
    """Return the text that :func:`cell` was given.

    :param cell: what it returned
    """
    return cell.replace(_JOINER, "")


def link(text: str, url: str | None) -> str:
    """Return a link for a cell; an empty text without a URL.

    :param text: one word
    :param url: the URL
    """
    return f"[{text}]({url.replace('(', '%28').replace(')', '%29')})" if url else ""


def read_link(cell: str) -> str | None:
    """Return the URL of what :func:`link` returned.

    :param cell: what it returned
    """
    found = _LINK.fullmatch(cell)
    return found[1] if found else None
