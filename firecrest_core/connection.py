"""The connection to a FirecREST: its URL, the way to sign in, and the settings of requests."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from firecrest_core.errors import ConfigurationError
from firecrest_core.job_pages import check_job_url
from firecrest_core.sign_in import SignIn, SignInKind, parse_sign_in
from firecrest_core.system_names import check_system_name
from firecrest_core.urls import check_proxy_url, check_url, sends_in_clear

if TYPE_CHECKING:
    from pydantic import SecretStr

_OPTIONAL = (
    "FIRECREST_AUTH",
    "FIRECREST_SYSTEM",
    "FIRECREST_ALLOW_HTTP",
    "FIRECREST_PROXY",
    "FIRECREST_CLIENT_CERT",
    "FIRECREST_BASE_DIR",
)
_CLIENT = ("AUTH_TOKEN_URL", "FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET")
_API_KEY = "FIRECREST_API_KEY"
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One FirecREST v2 deployment and the way to sign in to it.

    :param url: the API's root, for example ``https://api.cscs.ch/hpc/firecrest/v2``
    :param auth: the way to sign in. ``client_secret_post`` and ``client_secret_basic``: an OAuth2 client gets tokens
        (client credentials grant), and sends its secret in the form or by HTTP Basic. ``api_key``: a key goes with each
        request. ``command:<command line>``, ``file:<path>`` and ``env:<VARIABLE>``: a token of your own, which the
        command prints, or which the file or the variable holds.
    :param token_url: the OAuth2 token endpoint of the site's identity provider; ignored where no client signs in
    :param client_id: the OAuth2 client; ignored where no client signs in
    :param client_secret: the client's secret, or the API key. With a token of your own, any long random text: it signs
        the records by which jobs are cancelled. It is kept in a ``SecretStr``, so that neither ``repr`` nor a traceback
        with variables shows it; :attr:`secret` returns that
    :param scopes: OAuth2 scopes to ask for; the provider's default when empty
    :param system: the default system, for calls that name none, for example ``daint``
    :param verify: check TLS certificates: ``True``, ``False``, or the path of a CA bundle
    :param client_cert: the path of a PEM file with a certificate and its key, for servers that ask for one
    :param proxy: the proxy of all requests, for example ``http://proxy.example.org:3128``; it may hold a user name and
        a password, and is kept in a ``SecretStr``. Without it, ``HTTPS_PROXY`` and ``NO_PROXY`` count, as usual.
    :param allow_http: send secrets over plain ``http``, too. Otherwise the URLs, and those of the staging store, may be
        plain only if they lead to this machine (``localhost``, ``127.0.0.1``, ``::1``)
    :param timeout: seconds to wait for an answer, and for each further piece of it; the whole answer may take ten
        times as long
    :param max_in_flight: requests in flight at once for each server and user. A site's sshd allows ten
        sessions on a connection and a status call takes two, so more than four is answered with 500 and 424.
    :param base_dir: the directory on the systems that relative paths begin at, for example ``$SCRATCH/workflows``
    :param paths: more names for paths there, such as ``{"PROJECT": "/project/x"}`` for ``$PROJECT``; see
        :mod:`firecrest_core.paths`
    :param job_url: template of the URL of a job's page in the centre's own web interface; see
        :mod:`firecrest_core.job_pages`
    :param presets: fields of jobs by the names of presets; see :mod:`firecrest_core.presets`
    :param kept_in: what holds these settings, as messages call it: Airflow's ``connection``, Prefect's ``credentials
        block``
    :raises ConfigurationError: a value is missing, is no URL, is a plain one that is not allowed, or is out of range
    """

    url: str
    token_url: str = ""
    client_id: str = ""
    client_secret: str | SecretStr = field(repr=False)
    auth: str = field(default=SignInKind.CLIENT_SECRET_POST.value, repr=False)
    scopes: tuple[str, ...] = ()
    system: str | None = None
    verify: bool | str = True
    client_cert: str | None = None
    proxy: str | SecretStr | None = field(default=None, repr=False)
    allow_http: bool = False
    timeout: float = 30.0
    max_in_flight: int = 4
    base_dir: str | None = None
    paths: Mapping[str, str] = field(default_factory=dict, hash=False)
    job_url: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)
    kept_in: str = field(default="connection", repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "client_secret", self.secret)
        object.__setattr__(self, "proxy", self.proxy_url)
        sign_in = self.sign_in
        self._check_url("url", self.url)
        if sign_in.as_client:
            self._check_url("token_url", self.token_url)
            if not self.client_id:
                raise ConfigurationError("client_id is empty: give the id of your OAuth2 client")
        else:
            object.__setattr__(self, "token_url", "")
            object.__setattr__(self, "client_id", "")
        if not self.secret:
            raise ConfigurationError(f"client_secret is empty: {_missing_secret(sign_in)}")
        if sign_in.by_api_key and not is_header_value(self.secret):
            raise ConfigurationError("client_secret is no API key: a key has no blanks, line breaks or accents")
        if self.proxy_url is not None:
            check_proxy_url(self.proxy_url)
        if self.timeout <= 0:
            raise ConfigurationError(f"timeout is {self.timeout}: give a number of seconds above 0")
        if self.max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight is {self.max_in_flight}: give 1 or more")
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if self.system is not None:
            object.__setattr__(self, "system", check_system_name(self.system))
        _check_paths(self.base_dir, self.paths)
        if self.job_url:
            check_job_url(self.job_url)
        if not isinstance(self.presets, Mapping) or not all(isinstance(one, Mapping) for one in self.presets.values()):
            raise ConfigurationError('presets: give names and fields, such as {"train": {"partition": "gpu"}}')

    def _check_url(self, name: str, value: str) -> None:
        check_url(name, value, query=name == "token_url")
        if sends_in_clear(value) and not self.allow_http:
            raise ConfigurationError(
                f"{name} is plain http to {urlsplit(value).netloc}: everybody on the way can read the secret and the "
                "tokens. Give an https URL, or set allow_http if the site has none."
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Connection:
        """Read the variables that CSCS's documentation uses, and those of the other ways to sign in.

        :param environ: ``FIRECREST_URL``, the way to sign in as ``FIRECREST_AUTH``, and what it needs: a client
            ``AUTH_TOKEN_URL``, ``FIRECREST_CLIENT_ID`` and ``FIRECREST_CLIENT_SECRET``, an API key
            ``FIRECREST_API_KEY``, which needs no ``FIRECREST_AUTH``, and a token of your own
            ``FIRECREST_CLIENT_SECRET``. Optional are ``FIRECREST_SYSTEM``, ``FIRECREST_ALLOW_HTTP`` (``true`` or
            ``false``), ``FIRECREST_PROXY``, ``FIRECREST_CLIENT_CERT`` and ``FIRECREST_BASE_DIR``. ``os.environ`` unless
            given
        :returns: the connection that they describe
        :raises ConfigurationError: a variable is missing or cannot be right; the message names it
        """
        from pydantic import SecretStr

        environ = os.environ if environ is None else environ
        given = {name: SecretStr(environ.get(name) or "") for name in ("FIRECREST_URL", *_CLIENT, _API_KEY, *_OPTIONAL)}
        del environ  # a traceback with variables would show the secret in it
        auth = given["FIRECREST_AUTH"].get_secret_value()
        if not auth:
            auth = SignInKind.API_KEY if given[_API_KEY] else SignInKind.CLIENT_SECRET_POST
        try:
            sign_in = parse_sign_in(auth)
        except ConfigurationError as error:
            raise ConfigurationError(f"FIRECREST_AUTH: {error}") from None
        missing = [name for name in ("FIRECREST_URL", *_needed_variables(sign_in)) if not given[name]]
        if missing:
            raise ConfigurationError(f"set the environment variable(s) {', '.join(missing)}")
        return cls(
            url=given["FIRECREST_URL"].get_secret_value(),
            auth=auth,
            token_url=given["AUTH_TOKEN_URL"].get_secret_value(),
            client_id=given["FIRECREST_CLIENT_ID"].get_secret_value(),
            client_secret=given[_API_KEY if sign_in.by_api_key else "FIRECREST_CLIENT_SECRET"],
            system=given["FIRECREST_SYSTEM"].get_secret_value() or None,
            allow_http=read_switch("FIRECREST_ALLOW_HTTP", given["FIRECREST_ALLOW_HTTP"].get_secret_value()),
            proxy=given["FIRECREST_PROXY"] or None,
            client_cert=given["FIRECREST_CLIENT_CERT"].get_secret_value() or None,
            base_dir=given["FIRECREST_BASE_DIR"].get_secret_value() or None,
        )

    @property
    def sign_in(self) -> SignIn:
        """The way to sign in, which :attr:`auth` names."""
        return parse_sign_in(self.auth)

    @property
    def proxy_url(self) -> SecretStr | None:
        """The proxy's URL, in a type that hides it."""
        from pydantic import SecretStr  # imported here because DAG files import this module

        given = self.proxy
        return given if given is None or isinstance(given, SecretStr) else SecretStr(given)

    @property
    def secret(self) -> SecretStr:
        """The client's secret, in a type that hides it."""
        from pydantic import SecretStr  # imported here because DAG files import this module

        given = self.client_secret
        return given if isinstance(given, SecretStr) else SecretStr(given or "")

    def route(self, host: str) -> str:
        """Return a host in words, with the proxy that leads to it, if the connection has one.

        :param host: where a request goes
        """
        if self.proxy_url is None:
            return host
        return f"{host} (over the proxy {urlsplit(self.proxy_url.get_secret_value()).netloc.rpartition('@')[2]})"

    def system_or_default(self, system: str | None) -> str:
        """Return ``system``, or the connection's default if it is empty.

        :param system: a system's name, for example ``daint``
        :raises ConfigurationError: neither names a system, or it cannot be the name of a system
        """
        chosen = system or self.system
        if not chosen:
            raise ConfigurationError(f"no system is named: give `system`, or a default system in the {self.kept_in}")
        return check_system_name(chosen)


def is_header_value(secret: SecretStr) -> bool:
    """Tell whether a token or a key can stand in a request's header: one word of printable ASCII.

    :param secret: the token or the key
    """
    return _HEADER_VALUE.fullmatch(secret.get_secret_value()) is not None


def _missing_secret(sign_in: SignIn) -> str:
    if sign_in.as_client:
        return "give the secret of your OAuth2 client"
    if sign_in.by_api_key:
        return "give your API key"
    return "give any long random text: it signs the records by which jobs are cancelled"


def _needed_variables(sign_in: SignIn) -> tuple[str, ...]:
    if sign_in.as_client:
        return _CLIENT
    return (_API_KEY,) if sign_in.by_api_key else ("FIRECREST_CLIENT_SECRET",)


def _check_paths(base_dir: str | None, paths: Mapping[str, str]) -> None:
    if not isinstance(paths, Mapping):
        raise ConfigurationError('paths: give names and paths, such as {"PROJECT": "/project/x"}')
    for name in paths:
        if not (isinstance(name, str) and _VARIABLE.fullmatch(name)):
            raise ConfigurationError(f"paths: {name!r} cannot be the name of a variable, such as PROJECT")
    for name, path in (("base_dir", base_dir), *((f"paths: {name}", path) for name, path in paths.items())):
        if path is not None and not (isinstance(path, str) and path.startswith(("/", "~", "$"))):
            raise ConfigurationError(f"{name} is {path!r}: give a path that begins with /, ~ or a variable")


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
