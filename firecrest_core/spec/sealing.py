"""A job specification in a form that an engine may store: its secrets are encrypted with the connection's secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from firecrest_core.encryption import SecretChangedError, decrypt, encrypt
from firecrest_core.errors import TransientError
from firecrest_core.spec.jobspec import JobSpec

_PURPOSE = "secrets of a job"
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
