"""The proxy that requests go over."""

from __future__ import annotations

import ssl

import httpx

from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError


def proxy(connection: Connection, context: ssl.SSLContext | bool) -> httpx.Proxy | None:
    """Return a connection's proxy in the form that httpx takes; ``None`` leaves it to the environment.

    :param connection: may name a proxy
    :param context: what of the certificate of an ``https`` proxy is checked
    :raises ConfigurationError: it cannot be the name of a host; the message does not repeat it
    """
    if connection.proxy_url is None:
        return None
    try:
        proxy = httpx.Proxy(connection.proxy_url.get_secret_value())
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError("proxy: its host cannot be the name of one") from None
    if proxy.url.scheme == "https":
        proxy.ssl_context = context if isinstance(context, ssl.SSLContext) else httpx.create_ssl_context(verify=context)
    return proxy
