"""Encryption with a key that is derived from the connection's secret, for what an engine stores of a task."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr


class SecretChangedError(ValueError):
    """The connection's secret is another one than when the text was encrypted."""


def encrypt(text: SecretStr, client_secret: SecretStr, purpose: str) -> str:
    """Encrypt a text.

    :param text: the text
    :param client_secret: the connection's secret
    :param purpose: what the text is; each purpose has a key of its own
    """
    return _box(client_secret, purpose).encrypt(text.get_secret_value().encode()).decode()


def decrypt(encrypted: str, client_secret: SecretStr, purpose: str) -> SecretStr:
    """Decrypt a text.

    :param encrypted: what :func:`encrypt` returned
    :param client_secret: the connection's secret
    :param purpose: as for :func:`encrypt`
    :raises SecretChangedError: the secret has changed since
    """
    try:
        return SecretStr(_box(client_secret, purpose).decrypt(encrypted.encode()).decode())
    except InvalidToken:
        raise SecretChangedError(purpose) from None


def _box(client_secret: SecretStr, purpose: str) -> Fernet:
    key = HKDF(SHA256(), length=32, salt=None, info=f"firecrest-workflows {purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(key.derive(client_secret.get_secret_value().encode())))
