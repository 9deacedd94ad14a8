"""A job specification in a form that an engine may store: its secrets are encrypted with the connection's secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from firecrest_core.encryption import SecretChangedError, decrypt, encrypt
from firecrest_core.errors import TransientError
from firecrest_core.hidden_values import hide_value
from firecrest_core.spec.jobspec import JobSpec

_PURPOSE = "secrets of a job"
_HIDING = "secrets of a job that no log shows"
_SECRETS = "sealed_secrets"  # no field has this name


def seal(spec: JobSpec, client_secret: SecretStr) -> dict[str, Any]:
    """Return a specification as JSON types, without its secrets in clear; :func:`unseal` reads it back.

    :param spec: the job
    :param client_secret: the connection's secret
    """
    sealed = spec.to_mapping()
    if spec.secrets:
        secrets = encrypt(SecretStr(json.dumps(spec.secrets)), client_secret, _PURPOSE)
        sealed |= {"environment": spec.plain_environment, _SECRETS: secrets}
    return sealed


def seal_secrets(spec: JobSpec, client_secret: SecretStr) -> str | None:
    """Return a job's secrets encrypted, for :func:`hide_secrets` in another process; ``None`` if it has none.

    :param spec: the job
    :param client_secret: the connection's secret
    """
    if not spec.secrets:
        return None
    return encrypt(SecretStr(json.dumps(list(spec.secrets.values()))), client_secret, _HIDING)


def hide_secrets(sealed: str | None, client_secret: SecretStr) -> bool:
    """Let no output of the job show its secrets, in this process.

    :param sealed: what :func:`seal_secrets` returned
    :param client_secret: the connection's secret
    :returns: ``False`` if they cannot be read any more, because the connection's secret has changed since
    """
    if sealed is None:
        return True
    try:
        values = json.loads(decrypt(sealed, client_secret, _HIDING).get_secret_value())
    except SecretChangedError:
        return False
    for value in values:
        hide_value(value)
    return True


def unseal(sealed: Mapping[str, Any], client_secret: SecretStr) -> JobSpec:
    """Return the specification that :func:`seal` wrote.

    :param sealed: what it returned
    :param client_secret: the connection's secret
    :raises TransientError: the secret has changed since; a later try of the task does not need what was stored
    """
    fields = dict(sealed)
    secrets = fields.pop(_SECRETS, None)
    if secrets is not None:
        try:
            found = json.loads(decrypt(secrets, client_secret, _PURPOSE).get_secret_value())
        except SecretChangedError:
            raise TransientError(
                "environment: the job's secrets cannot be read any more, because the connection's client secret has "
                "changed since they were stored. Run the task again."
            ) from None
        fields["environment"] = fields["environment"] | {name: SecretStr(value) for name, value in found.items()}
    return JobSpec.from_mapping(fields)
