"""An access token, and when it has to be renewed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import jwt
from pydantic import SecretStr

MIN_REMAINING = 30.0
"""Seconds for which a token must still be valid: FirecREST refuses one that expires sooner."""

# Seconds before that moment at which a token is renewed, so that a request is not refused on its way.
_MARGIN = 30.0
_MARGIN_OF_SHORT = 5.0
_LONG = 120.0
# A token that is hardly valid for long enough serves the requests of this many seconds. Otherwise each request would
# ask for one of its own.
_SHORTEST_USE = 1.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and how long it is valid.

    :param value: what goes with a request
    :param expires_at: when it expires, in seconds of the monotonic clock; ``inf`` if only the server knows
    """

    value: SecretStr
    expires_at: float = math.inf

    @property
    def renew_at(self) -> float:
        """When to get another one, in seconds of the monotonic clock."""
        now = time.monotonic()
        usable = self.expires_at - now - MIN_REMAINING
        margin = _MARGIN if usable >= _LONG - MIN_REMAINING else min(_MARGIN_OF_SHORT, usable / 2)
        return now + max(usable - margin, _SHORTEST_USE)


def seconds_left(value: SecretStr) -> float | None:
    """Return for how many seconds a token is valid, if it is a JSON Web Token that says so.

    Nothing is verified: the server does that.

    :param value: the token
    """
    try:
        claims = jwt.decode(value.get_secret_value(), options={"verify_signature": False})
        expires = float(claims["exp"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return expires - time.time() if math.isfinite(expires) else None
