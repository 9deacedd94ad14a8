"""Where the documentation is on the web: pages of the site that `make docs` builds."""

from __future__ import annotations

_SITE = "https://firecrest-workflows.readthedocs.io/en/stable/"


def page_url(page: str) -> str:
    """Return the address of a page.

    :param page: its file in the site, for example ``connection.html``, perhaps with ``#`` and a heading's id
    """
    return f"{_SITE}{page}"
