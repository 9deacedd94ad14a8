"""Access tokens: how they are made, and the rule by which the API accepts them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time

from firecrest_local.errors import ApiError

#: Seconds that a token must still be valid for when it is used.
MIN_REMAINING = 30
KEY_ID = "firecrest-local"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenIssuer:
    """Issues and verifies JSON Web Tokens (HS256) for one client.

    :param client_id: the client that gets tokens.
    :param client_secret: the client's secret.
    :param key: signs the tokens.
    :param user: the name that the tokens carry.
    :param lifetime: seconds that a token is valid for.
    """

    def __init__(self, client_id: str, client_secret: str, key: str, user: str, lifetime: float) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self._key = key.encode()
        self.user = user
        self.lifetime = lifetime

    def rotate(self) -> None:
        """Give the client a new secret. Tokens that were issued for the old one stay valid until they expire."""
        self.client_secret = secrets.token_urlsafe(32)

    def knows(self, client_id: str) -> bool:
        """Return whether there is such a client."""
        return hmac.compare_digest(client_id.encode(), self.client_id.encode())

    def accepts(self, client_id: str, client_secret: str) -> bool:
        """Return whether these are the client's credentials."""
        same_secret = hmac.compare_digest(client_secret.encode(), self.client_secret.encode())
        return self.knows(client_id) and same_secret

    def issue(self, lifetime: float | None = None) -> str:
        """Make a token that is valid for `lifetime` seconds. The default is the issuer's own lifetime."""
        now = time.time()
        header = {"alg": "HS256", "typ": "JWT", "kid": KEY_ID}
        claims = {
            "iat": int(now),
            "exp": now + (self.lifetime if lifetime is None else lifetime),
            "preferred_username": self.user,
            "azp": self.client_id,
        }
        signed = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{self._sign(signed)}"

    def verify(self, token: str) -> str:
        """Return the name of the token's user.

        :raises ApiError: 401 in the real server's words.
        """
        try:
            signed, signature = token.rsplit(".", 1)
            header, claims = (json.loads(_decode(part)) for part in signed.split("."))
            key_id, expires = header.get("kid"), float(claims["exp"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ApiError(401, "Access token is invalid.") from None
        if key_id != KEY_ID:
            raise ApiError(401, "Token's public key not found.")
        if not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            raise ApiError(401, "Access token is invalid.")
        remaining = expires - time.time()
        if remaining <= 0:
            raise ApiError(401, "Access token expired")
        if remaining < MIN_REMAINING:
            raise ApiError(401, f"Access token expires too soon (less than {MIN_REMAINING}s remaining).")
        return str(claims.get("preferred_username"))

    def _sign(self, signed: str) -> str:
        return _encode(hmac.new(self._key, signed.encode(), hashlib.sha256).digest())
