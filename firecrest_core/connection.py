"""The connection to a FirecREST: its URL, the OAuth2 client and the settings of requests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firecrest_core.errors import ConfigurationError
from firecrest_core.system_names import check_system_name
from firecrest_core.urls import check_url, sends_in_clear

if TYPE_CHECKING:
    from pydantic import SecretStr

_OPTIONAL = ("FIRECREST_SYSTEM", "FIRECREST_ALLOW_HTTP")
_REQUIRED = ("FIRECREST_URL", "AUTH_TOKEN_URL", "FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One FirecREST v2 deployment and the OAuth2 client to use it with.

    :param url: the API's root, for example ``https://api.cscs.ch/hpc/firecrest/v2``
    :param token_url: the OAuth2 token endpoint of the site's identity provider
    :param client_id: the OAuth2 client (client credentials grant)
    :param client_secret: the client's secret. It is kept in a ``SecretStr``, so that neither ``repr`` nor a traceback
        with variables shows it; :attr:`secret` returns that
    :param scopes: OAuth2 scopes to ask for; the provider's default when empty
    :param system: the default system, for calls that name none, for example ``daint``
    :param verify: check TLS certificates: ``True``, ``False``, or the path of a CA bundle
    :param allow_http: send secrets over plain ``http``, too. Otherwise the URLs, and those of the staging store, may be
        plain only if they lead to this machine (``localhost``, ``127.0.0.1``, ``::1``)
    :param timeout: seconds to wait for an answer, and for each further piece of it; the whole answer may take ten
        times as long
    :param max_in_flight: requests in flight at once for each server and user. A site's sshd allows ten
        sessions on a connection and a status call takes two, so more than four is answered with 500 and 424.
    :raises ConfigurationError: a value is missing, is no URL, is a plain one that is not allowed, or is out of range
    """

    url: str
    token_url: str
    client_id: str
    client_secret: str | SecretStr = field(repr=False)
    scopes: tuple[str, ...] = ()
    system: str | None = None
    verify: bool | str = True
    allow_http: bool = False
    timeout: float = 30.0
    max_in_flight: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "client_secret", self.secret)
        for name, value in (("url", self.url), ("token_url", self.token_url)):
            check_url(name, value, query=name == "token_url")
            if sends_in_clear(value) and not self.allow_http:
                raise ConfigurationError(
                    f"{name} is plain http to {urlsplit(value).netloc}: everybody on the way can read the client's "
                    "secret and its tokens. Give an https URL, or set allow_http if the site has none."
                )
        if not self.client_id:
            raise ConfigurationError("client_id is empty: give the id of your OAuth2 client")
        if not self.secret:
            raise ConfigurationError("client_secret is empty: give the secret of your OAuth2 client")
        if self.timeout <= 0:
            raise ConfigurationError(f"timeout is {self.timeout}: give a number of seconds above 0")
        if self.max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight is {self.max_in_flight}: give 1 or more")
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if self.system is not None:
            object.__setattr__(self, "system", check_system_name(self.system))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Connection:
        """Read the variables that CSCS's documentation uses.

        :param environ: ``FIRECREST_URL``, ``AUTH_TOKEN_URL``, ``FIRECREST_CLIENT_ID``,
            ``FIRECREST_CLIENT_SECRET`` and optionally ``FIRECREST_SYSTEM`` and ``FIRECREST_ALLOW_HTTP`` (``true`` or
            ``false``); ``os.environ`` unless given
        :returns: the connection that they describe
        :raises ConfigurationError: a variable is missing or cannot be right; the message names it
        """
        from pydantic import SecretStr

        environ = os.environ if environ is None else environ
        given = {name: SecretStr(environ.get(name) or "") for name in (*_REQUIRED, *_OPTIONAL)}
        del environ  # a traceback with variables would show the secret in it
        missing = [name for name in _REQUIRED if not given[name]]
        if missing:
            raise ConfigurationError(f"set the environment variable(s) {', '.join(missing)}")
        return cls(
            url=given["FIRECREST_URL"].get_secret_value(),
            token_url=given["AUTH_TOKEN_URL"].get_secret_value(),
            client_id=given["FIRECREST_CLIENT_ID"].get_secret_value(),
            client_secret=given["FIRECREST_CLIENT_SECRET"],
            system=given["FIRECREST_SYSTEM"].get_secret_value() or None,
            allow_http=read_switch("FIRECREST_ALLOW_HTTP", given["FIRECREST_ALLOW_HTTP"].get_secret_value()),
        )

    @property
    def secret(self) -> SecretStr:
        """The client's secret, in a type that hides it."""
        from pydantic import SecretStr  # imported here because DAG files import this module

        given = self.client_secret
        return given if isinstance(given, SecretStr) else SecretStr(given or "")

    def system_or_default(self, system: str | None) -> str:
        """Return ``system``, or the connection's default if it is empty.

        :param system: a system's name, for example ``daint``
        :raises ConfigurationError: neither names a system, or it cannot be the name of a system
        """
        chosen = system or self.system
        if not chosen:
            raise ConfigurationError("no system is named: give `system`, or a default system in the connection")
        return check_system_name(chosen)


def read_switch(name: str, value: bool | str | None) -> bool:
    """Return a setting that is on or off, and may be given as a text.

    :param name: what it is called where it is given
    :param value: ``true`` or ``1``, ``false`` or ``0``; off if empty
    :raises ConfigurationError: it is something else
    """
    text = str("" if value is None else value).strip().lower()
    if text not in ("", "true", "1", "false", "0"):
        raise ConfigurationError(f"{name} is {value!r}: give true or false")
    return text in ("true", "1")
