"""Encryption of presigned URLs with the connection's secret, for URLs that are stored in a deferred task's state."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from firecrest_core.errors import TransferFailed


def encrypt(url: SecretStr, client_secret: SecretStr) -> str:
    """Encrypt a URL with a key that is derived from the client secret.

    :param url: a presigned URL
    :param client_secret: the connection's secret
    """
    return _box(client_secret).encrypt(url.get_secret_value().encode()).decode()


def decrypt(encrypted: str, client_secret: SecretStr) -> SecretStr:
    """Decrypt a URL.

    :param encrypted: what :func:`encrypt` returned
    :param client_secret: the connection's secret
    :raises TransferFailed: the secret has changed since
    """
    try:
        return SecretStr(_box(client_secret).decrypt(encrypted.encode()).decode())
    except InvalidToken:
        raise TransferFailed(
            "The client secret has changed since this transfer began. Start the transfer again."
        ) from None


def _box(client_secret: SecretStr) -> Fernet:
    key = HKDF(SHA256(), length=32, salt=None, info=b"firecrest-workflows presigned url")
    return Fernet(base64.urlsafe_b64encode(key.derive(client_secret.get_secret_value().encode())))
