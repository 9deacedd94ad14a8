"""How what is sent is protected on its way, and a warning where it is not."""

from __future__ import annotations

import logging
import ssl
from urllib.parse import urlsplit

from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError
from firecrest_core.urls import sends_in_clear

log = logging.getLogger(__name__)

# What this process has warned of. It holds a few texts, one for each connection.
_warned: set[str] = set()


def tls_context(verify: bool | str) -> ssl.SSLContext | bool:
    """Return ``Connection.verify`` in the form that httpx takes.

    :param verify: ``True``, ``False``, or the path of a CA bundle
    :raises ConfigurationError: the CA bundle cannot be read
    """
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        raise ConfigurationError(f"verify: the CA bundle {verify} cannot be read ({error}).") from None


def warn_if_unprotected(connection: Connection) -> None:
    """Log a warning, once in this process, if others on the network can read what is sent, or answer in its place.

    :param connection: the connection, before its first request
    """
    urls = [urlsplit(url) for url in dict.fromkeys((connection.url, connection.token_url))]
    for url in urls:
        if sends_in_clear(url.geturl()):
            _warn_once(
                f"allow_http: the client's secret or its tokens go to {url.netloc} without encryption, so "
                "that everybody on the way can read them. Use https as soon as the site has it."
            )
    unchecked = dict.fromkeys(url.netloc for url in urls if url.scheme == "https")
    if connection.verify is False and unchecked:
        _warn_once(
            f"verify=False: the certificate of {' and '.join(unchecked)} is not checked, so that anybody on the way "
            "can take its place and read the client's secret. Set verify to the site's CA bundle instead."
        )


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)
