"""What the URLs of a connection may hold, and whether what is sent to a URL is encrypted."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firecrest_core.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import SecretStr

_NEVER_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f\\]")


def check_url(field: str, url: str, *, query: bool = False) -> None:
    """Refuse what is not the URL of an HTTP server, and what would turn the paths that follow it into something else.

    The message repeats the URL only if it cannot hold a secret.

    :param field: the name of the setting, which begins the message
    :param url: for example ``https://api.example.org/v2``
    :param query: whether it may have a query, because no path follows it
    :raises ConfigurationError: it is no such URL
    """
    url = url or ""
    if "@" in url:
        raise ConfigurationError(
            f"{field} holds a user name or a password (user:password@host): remove them, since they would be shown "
            "with the URL. The client's id and secret have fields of their own."
        )
    if "#" in url or ("?" in url and not query):
        raise ConfigurationError(f"{field} holds a query or a fragment (what begins with ? or #): give it without.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        usable = usable and parts.hostname not in ("http", "https")  # a scheme is given twice, or half
    except ValueError:  # a port that is no number, or half an IPv6 address
        usable = False
    if not usable or _NEVER_IN_URLS.search(url):
        shown = repr(url.partition("?")[0])
        raise ConfigurationError(f"{field} is {shown}: give a full URL such as https://api.example.org/v2")


def check_proxy_url(url: SecretStr) -> None:
    """Refuse what is not the URL of an HTTP proxy. The message does not repeat it, since it may hold a password.

    :param url: for example ``http://user:password@proxy.example.org:3128``
    :raises ConfigurationError: it is no such URL
    """
    if not _is_proxy_url(url.get_secret_value()):
        raise ConfigurationError(
            "proxy is not the URL of a proxy: give one such as http://proxy.example.org:3128 (http or https; it may "
            "hold user:password@, with % codes for what has a meaning in URLs)"
        )


def _is_proxy_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return (
        bool(usable)
        and parts.path in ("", "/")
        and "?" not in url
        and "#" not in url
        and not _NEVER_IN_URLS.search(url)
    )


def sends_in_clear(url: str) -> bool:
    """Tell whether what is sent to a URL can be read on its way: it is plain http, and leaves this machine.

    :param url: the URL; of one that cannot be read, nothing good is assumed
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
