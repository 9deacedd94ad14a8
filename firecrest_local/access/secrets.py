"""The server's own secrets. They are made once and kept in the state directory."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from firecrest_local.private_files import write_private


@dataclass(frozen=True)
class Secrets:
    """Keys that outlive a restart. No text form shows them.

    :param client_secret: what the token endpoint accepts.
    :param token_key: signs access tokens.
    :param url_key: signs presigned URLs.
    """

    client_secret: str = field(repr=False)
    token_key: str = field(repr=False)
    url_key: str = field(repr=False)


def load_secrets(state: Path, client_secret: str | None) -> Secrets:
    """Read the secrets of the state directory, or make them.

    :param state: the server's state directory.
    :param client_secret: the user's choice. It replaces the secret of the state directory and is not written there.
    """
    path = state / "secrets.json"
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        kept = {name: secrets.token_urlsafe(32) for name in ("client_secret", "token_key", "url_key")}
        write_private(path, json.dumps(kept))
    if client_secret is not None:
        kept = {**kept, "client_secret": client_secret}
    return Secrets(**kept)
