"""What Airflow shows of this provider before it imports any of it: its modules and its connection form."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "FirecREST"

_CONNECTION_FIELDS: dict[str, Any] = {
    "token_url": {
        "label": "Token URL",
        "description": "OAuth2 token endpoint of the site's identity provider. Required.",
        "schema": {"type": ["string", "null"]},
    },
    "system": {
        "label": "System",
        "description": "The system (cluster) that is meant where a task names none, for example daint.",
        "schema": {"type": ["string", "null"]},
    },
    "scopes": {
        "label": "Scopes",
        "description": "OAuth2 scopes to ask for, separated by spaces. Empty: the identity provider's default.",
        "schema": {"type": ["string", "null"]},
    },
    "verify": {
        "label": "Verify TLS",
        "description": (
            "true checks certificates against the system's authorities, a path names a CA bundle, false checks nothing."
        ),
        "schema": {"type": ["string", "null"], "default": "true"},
    },
    "allow_http": {
        "label": "Allow plain http",
        "description": (
            "true sends the client's secret, its tokens and the staging store's URLs without encryption where a URL "
            "begins with http://. Everybody on the way can read them then."
        ),
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "timeout": {
        "label": "Timeout",
        "description": "Seconds that one request may take.",
        "schema": {"type": ["number", "null"], "default": 30, "minimum": 1},
    },
    "max_in_flight": {
        "label": "Requests at once",
        "description": (
            "Requests in flight at once. A site's sshd allows ten sessions on a connection and a status call "
            "takes two, so more than four fails on most sites."
        ),
        "schema": {"type": ["integer", "null"], "default": 4, "minimum": 1},
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the metadata behind the entry point ``apache_airflow_provider``.

    Forms: ``provider_info.schema.json`` and, for the connection's form, ``provider.yaml.schema.json`` of
    Airflow 3.2 and later.
    """
    return {
        "package-name": "firecrest-workflows",
        "name": "FirecREST",
        "description": "Runs HPC jobs through the `FirecREST v2 <https://eth-cscs.github.io/firecrest-v2/>`__ API.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://eth-cscs.github.io/firecrest-v2/",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_firecrest.hooks.firecrest"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_firecrest.operators.filesystem",
                    "airflow_provider_firecrest.operators.job",
                    "airflow_provider_firecrest.operators.transfer",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_firecrest.sensors.filesystem",
                    "airflow_provider_firecrest.sensors.job",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_firecrest.triggers.file",
                    "airflow_provider_firecrest.triggers.job",
                    "airflow_provider_firecrest.triggers.transfer",
                ],
            }
        ],
        "connection-types": [
            {
                "connection-type": "firecrest",
                "hook-class-name": "airflow_provider_firecrest.hooks.firecrest.FirecRESTHook",
                "hook-name": "FirecREST",
                "conn-fields": _CONNECTION_FIELDS,
                "ui-field-behaviour": {
                    "hidden-fields": ["port", "schema"],
                    "relabeling": {
                        "host": "FirecREST URL",
                        "login": "Client ID",
                        "password": "Client secret",
                    },
                    "placeholders": {
                        "host": "https://api.example.org/firecrest/v2",
                        "login": "id of your OAuth2 client (client credentials grant)",
                        "password": "its secret",
                        "token_url": "https://auth.example.org/realms/site/protocol/openid-connect/token",
                        "system": "daint",
                    },
                },
            }
        ],
    }
