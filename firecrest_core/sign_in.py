"""The ways to sign in to a FirecREST, and what each of them needs."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from enum import StrEnum

from firecrest_core.errors import ConfigurationError


class SignInKind(StrEnum):
    """A way to sign in. The first two are values of OAuth2's ``token_endpoint_auth_method``."""

    CLIENT_SECRET_POST = "client_secret_post"
    CLIENT_SECRET_BASIC = "client_secret_basic"
    API_KEY = "api_key"
    COMMAND = "command"
    FILE = "file"
    ENV = "env"


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLIENT = (SignInKind.CLIENT_SECRET_POST, SignInKind.CLIENT_SECRET_BASIC)
_ALL = (
    "client_secret_post, client_secret_basic, api_key, command:<command line>, file:<path> or env:<VARIABLE> (the last "
    "three give a token of your own)"
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """What :attr:`Connection.auth <firecrest_core.connection.Connection.auth>` means.

    :param kind: the way to sign in
    :param source: of a token of the user's own: the command line, the file's path or the variable's name. It is not
        shown, because a command line may hold a secret.
    """

    kind: SignInKind
    source: str = field(default="", repr=False)

    @property
    def as_client(self) -> bool:
        """Whether an OAuth2 client gets tokens from the site's identity provider."""
        return self.kind in _CLIENT

    @property
    def by_api_key(self) -> bool:
        """Whether a key goes with each request, in the place of a token."""
        return self.kind is SignInKind.API_KEY

    @property
    def origin(self) -> str:
        """Where a token of the user's own comes from, in words. Of a command line only the program is named."""
        if self.kind is SignInKind.COMMAND:
            return f"the command {self.command[0]!r}"
        return f"the file {self.source!r}" if self.kind is SignInKind.FILE else f"the variable {self.source!r}"

    @property
    def advice(self) -> str:
        """What to look at if FirecREST refuses a request as not authenticated."""
        if self.as_client:
            return "Check the client's id and secret, and that its scopes are right."
        if self.by_api_key:
            return "Check the API key, and that the URL is that of the gateway that takes it."
        return f"Check that {self.origin} gives a token for this FirecREST, and renew it."

    @property
    def command(self) -> list[str]:
        """The program that prints a token, and its arguments."""
        return shlex.split(self.source)


def parse_sign_in(auth: str) -> SignIn:
    """Read the setting ``auth``.

    The messages do not repeat it, since somebody may have put a token there.

    :param auth: ``client_secret_post``, ``client_secret_basic``, ``api_key``, ``command:<command line>``,
        ``file:<path>`` or ``env:<VARIABLE>``
    :raises ConfigurationError: it is none of these
    """
    name, colon, source = (auth or "").strip().partition(":")
    source = source.strip()
    try:
        sign_in = SignIn(SignInKind(name.strip()), source)
    except ValueError:
        raise ConfigurationError(f"auth is none of the ways to sign in: give {_ALL}") from None
    own_token = not (sign_in.as_client or sign_in.by_api_key)
    if own_token and not source:
        raise ConfigurationError(f"auth: nothing follows {name}: give {_ALL}")
    if colon and not own_token:
        raise ConfigurationError(f"auth: {name} takes nothing after it: give {_ALL}")
    if sign_in.kind is SignInKind.ENV and not _VARIABLE.fullmatch(source):
        raise ConfigurationError("auth: what follows env: is not the name of a variable: give one such as env:MY_TOKEN")
    if sign_in.kind is SignInKind.COMMAND:
        _check_command(sign_in)
    return sign_in


def _check_command(sign_in: SignIn) -> None:
    try:
        usable = bool(sign_in.command)
    except ValueError:  # a quotation that does not end
        usable = False
    if not usable:
        raise ConfigurationError("auth: the command line cannot be split into words: look at its quotation marks")
