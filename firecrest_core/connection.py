"""The connection to a FirecREST: its URL, the OAuth2 client and the settings of requests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from firecrest_core.errors import ConfigurationError

_REQUIRED = ("FIRECREST_URL", "AUTH_TOKEN_URL", "FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One FirecREST v2 deployment and the OAuth2 client to use it with.

    :param url: the API's root, for example ``https://api.cscs.ch/hpc/firecrest/v2``
    :param token_url: the OAuth2 token endpoint of the site's identity provider
    :param client_id: the OAuth2 client (client credentials grant)
    :param client_secret: the client's secret; never shown in ``repr``
    :param scopes: OAuth2 scopes to ask for; the provider's default when empty
    :param system: the default system, for calls that name none, for example ``daint``
    :param verify: check TLS certificates: ``True``, ``False``, or the path of a CA bundle
    :param timeout: seconds to wait for an answer, and for each further piece of it; the whole answer may take ten
        times as long
    :param max_in_flight: requests in flight at once for each server and user. A site's sshd allows ten
        sessions on a connection and a status call takes two, so more than four is answered with 500 and 424.
    :raises ConfigurationError: a value is missing, is no URL or is out of range
    """

    url: str
    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    system: str | None = None
    verify: bool | str = True
    timeout: float = 30.0
    max_in_flight: int = 4

    def __post_init__(self) -> None:
        for name, value in (("url", self.url), ("token_url", self.token_url)):
            parts = urlsplit(value or "")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigurationError(f"{name} is {value!r}: give a full URL such as https://api.example.org/v2")
        if not self.client_id:
            raise ConfigurationError("client_id is empty: give the id of your OAuth2 client")
        if not self.client_secret:
            raise ConfigurationError("client_secret is empty: give the secret of your OAuth2 client")
        if self.timeout <= 0:
            raise ConfigurationError(f"timeout is {self.timeout}: give a number of seconds above 0")
        if self.max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight is {self.max_in_flight}: give 1 or more")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Connection:
        """Read the variables that CSCS's documentation uses.

        :param environ: ``FIRECREST_URL``, ``AUTH_TOKEN_URL``, ``FIRECREST_CLIENT_ID``,
            ``FIRECREST_CLIENT_SECRET`` and optionally ``FIRECREST_SYSTEM``; ``os.environ`` unless given
        :returns: the connection that they describe
        :raises ConfigurationError: a variable is missing; the message names all that are
        """
        environ = os.environ if environ is None else environ
        missing = [name for name in _REQUIRED if not environ.get(name)]
        if missing:
            raise ConfigurationError(f"set the environment variable(s) {', '.join(missing)}")
        return cls(
            url=environ["FIRECREST_URL"],
            token_url=environ["AUTH_TOKEN_URL"],
            client_id=environ["FIRECREST_CLIENT_ID"],
            client_secret=environ["FIRECREST_CLIENT_SECRET"],
            system=environ.get("FIRECREST_SYSTEM") or None,
        )

    def system_or_default(self, system: str | None) -> str:
        """Return ``system``, or the connection's default if it is empty.

        :param system: a system's name, for example ``daint``
        :raises ConfigurationError: neither names a system
        """
        chosen = system or self.system
        if not chosen:
            raise ConfigurationError("no system is named: give `system`, or a default system in the connection")
        return chosen
