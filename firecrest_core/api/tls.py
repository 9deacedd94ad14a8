"""How what is sent is protected on its way, and a warning where it is not."""

from __future__ import annotations

import logging
import os
import ssl
from functools import cache
from urllib.parse import urlsplit

import httpx

from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError
from firecrest_core.urls import sends_in_clear

log = logging.getLogger(__name__)

# What this process has warned of. It holds a few texts, one for each connection.
_warned: set[str] = set()


def tls_context(connection: Connection) -> ssl.SSLContext | bool:
    """Return a connection's TLS settings in the form that httpx takes.

    :param connection: what of the servers' certificates is checked, and the client's own certificate
    :raises ConfigurationError: the CA bundle or the client's certificate cannot be read
    """
    verify, certificate = connection.verify, connection.client_cert
    if verify is True and certificate is None:
        return _usual_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    context: ssl.SSLContext | bool = verify if isinstance(verify, bool) else _trusting(verify)
    if certificate is None:
        return context
    if isinstance(context, bool):
        context = httpx.create_ssl_context(verify=context)
    try:
        # Without a password, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, password="")
    except OSError as error:  # ssl.SSLError, too
        reason = error.strerror or error
        raise ConfigurationError(
            f"client_cert: {certificate} cannot be read ({reason}). Give the path of a PEM file with a certificate and "
            "its key, which has no password."
        ) from None
    return context


@cache
def _usual_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return what trusts the usual authorities; a process reads these hundreds of certificates once.

    :param file: the variable that names another bundle, as httpx reads it
    :param folder: the same of a folder
    """
    return httpx.create_ssl_context()


def _trusting(bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ConfigurationError(f"verify: the CA bundle {bundle} cannot be read ({error}).") from None


def warn_if_unprotected(connection: Connection) -> None:
    """Log a warning, once in this process, if others on the network can read what is sent, or answer in its place.

    :param connection: the connection, before its first request
    """
    urls = [urlsplit(url) for url in dict.fromkeys((connection.url, connection.token_url)) if url]
    for url in urls:
        if sends_in_clear(url.geturl()):
            _warn_once(
                f"allow_http: the secret or the tokens go to {url.netloc} without encryption, so "
                "that everybody on the way can read them. Use https as soon as the site has it."
            )
    unchecked = dict.fromkeys(url.netloc for url in urls if url.scheme == "https")
    if connection.verify is False and unchecked:
        _warn_once(
            f"verify=False: the certificate of {' and '.join(unchecked)} is not checked, so that anybody on the way "
            "can take its place and read the secret. Set verify to the site's CA bundle instead."
        )


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)
