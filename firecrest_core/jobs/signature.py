"""Signatures of job records, which are kept where more people may write than may cancel the jobs.

A record in an engine's database says which jobs belong to a task. Whoever may change what the database holds of one
task must not reach the jobs of another one by that. So a record is signed by the process that submits the jobs, and
acted upon only where the signature is right. The key is derived from the connection's client secret: whoever has the
secret may do everything to the jobs anyway.
"""

from __future__ import annotations

import hmac
import json
from collections import OrderedDict
from hashlib import sha256

from firecrest_core.connection import Connection

# The secret has other uses, and a signature must be of no use there.
_PURPOSE = b"firecrest-workflows job records"

# Far more records than a process has under way.
_MOST_KNOWN = 100_000


def sign(connection: Connection, *content: object) -> str:
    """Return the signature of a record.

    :param connection: what the jobs are submitted with
    :param content: everything that a reader acts upon, of JSON types: whose the jobs are, where, and which
    """
    return hmac.digest(_key(connection), _canonical(content), sha256).hex()


def is_signed(connection: Connection, signature: str, *content: object) -> bool:
    """Tell whether somebody with the connection's secret has signed this.

    :param connection: what the jobs are to be cancelled with
    :param signature: what :func:`sign` returned, or any other text
    :param content: as for :func:`sign`
    """
    return hmac.compare_digest(sign(connection, *content).encode(), signature.encode())


class KnownSignatures:
    """The signatures that were right when this process saw them; they stay right when the secret is changed."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def check(self, connection: Connection, signature: str, *content: object) -> bool:
        """Tell whether this is signed, or was found to be signed before.

        :param connection: what the jobs are to be cancelled with, with its present secret
        :param signature: what :func:`sign` returned, or any other text
        :param content: as for :func:`sign`; it names the connection, since only this one's secret counts
        """
        known = sha256(_canonical((signature, *content))).digest()
        if known not in self._known and not is_signed(connection, signature, *content):
            return False
        self._known[known] = None
        self._known.move_to_end(known)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return True


def _key(connection: Connection) -> bytes:
    return hmac.digest(connection.secret.get_secret_value().encode(), _PURPOSE, sha256)


def _canonical(content: tuple[object, ...]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
