"""Encryption of presigned URLs with the connection's secret, for URLs that are stored in a deferred task's state."""

from __future__ import annotations

from pydantic import SecretStr

from firecrest_core import encryption
from firecrest_core.errors import TransferFailed

_PURPOSE = "presigned url"


def encrypt(url: SecretStr, client_secret: SecretStr) -> str:
    """Encrypt a URL with a key that is derived from the client secret.

    :param url: a presigned URL
    :param client_secret: the connection's secret
    """
    return encryption.encrypt(url, client_secret, _PURPOSE)


def decrypt(encrypted: str, client_secret: SecretStr) -> SecretStr:
    """Decrypt a URL.

    :param encrypted: what :func:`encrypt` returned
    :param client_secret: the connection's secret
    :raises TransferFailed: the secret has changed since
    """
    try:
        return encryption.decrypt(encrypted, client_secret, _PURPOSE)
    except encryption.SecretChangedError:
        raise TransferFailed(
            "The client secret has changed since this transfer began. Start the transfer again."
        ) from None
