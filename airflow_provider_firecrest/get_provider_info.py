"""What Airflow shows of this provider before it imports any of it: its modules and its connection form."""

from __future__ import annotations

from typing import Any

from firecrest_core.documentation import page_url

_INTEGRATION = "FirecREST"

# Airflow shows no placeholders in these fields, but offers their examples. It stores `null` for an empty field. A
# text of less than five characters makes Airflow warn in each task's log that it does not mask it.
_CONNECTION_FIELDS: dict[str, Any] = {
    "auth_url": {
        "label": "Auth URL *",
        "description": "OAuth2 token endpoint of the site's identity provider. Needed where a client signs in.",
        "schema": {
            "type": ["string", "null"],
            "examples": ["https://auth.example.org/realms/site/protocol/openid-connect/token"],
        },
    },
    "system": {
        "label": "System",
        "description": "The system (cluster) that is meant where a task names none, for example daint.",
        "schema": {"type": ["string", "null"], "examples": ["daint"]},
    },
    "auth": {
        "label": "Sign-in",
        "description": (
            "client_secret_post (if empty) or client_secret_basic: how the client sends its secret. api_key: the "
            "secret above is an API key. command:…, file:… or env:…: where a token of your own is."
        ),
        "schema": {
            "type": ["string", "null"],
            "examples": ["client_secret_post", "client_secret_basic", "api_key", "command:", "file:", "env:"],
        },
    },
    "scopes": {
        "label": "Scopes",
        "description": "OAuth2 scopes to ask for, separated by spaces. Empty: the identity provider's default.",
        "schema": {"type": ["string", "null"]},
    },
    "verify": {
        "label": "Verify TLS",
        "description": (
            "Empty: check certificates against the system's authorities. The whole path of a CA bundle: check against "
            "that. false: check nothing."
        ),
        "schema": {"type": ["string", "null"], "examples": ["/etc/ssl/certs/site-ca.pem", "false"]},
    },
    "client_cert": {
        "label": "Client certificate",
        "description": "The whole path of a PEM file with a certificate and its key, for a site that asks for one.",
        "schema": {"type": ["string", "null"], "examples": ["/etc/ssl/private/client.pem"]},
    },
    "proxy": {
        "label": "Proxy",
        "description": "URL of the proxy of all requests. Empty: HTTPS_PROXY and NO_PROXY of Airflow's machines.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "allow_http": {
        "label": "Allow plain http",
        "description": (
            "Sends the secret, its tokens and the staging store's URLs without encryption where a URL begins with "
            "http://. Everybody on the way can read them then."
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
    "base_dir": {
        "label": "Base directory",
        "description": "Directory on the systems that relative paths of tasks begin at, such as $SCRATCH/airflow.",
        "schema": {"type": ["string", "null"]},
    },
    "paths": {
        "label": "Paths",
        "description": 'More names for paths on the systems: {"PROJECT": "/project/x"} lets tasks write $PROJECT/data.',
        "schema": {"type": ["object", "null"]},
    },
    "job_url": {
        "label": "Job page",
        "description": (
            "URL of a job's page in the centre's own web interface, to which tasks link. It may name {system}, "
            "{job_id}, {name}, {account}, {partition}, {nodes}, {start} and {end}."
        ),
        "schema": {"type": ["string", "null"], "examples": ["https://ui.example.org/{system}/jobs/{job_id}"]},
    },
    "presets": {
        "label": "Presets",
        "description": (
            'Fields that many jobs share, by name: {"train": {"partition": "gpu"}} lets tasks say preset="train". '
            "A file firecrest-presets.toml beside the DAG comes first."
        ),
        "schema": {"type": ["object", "null"]},
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
                "external-doc-url": page_url("operators.html"),
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
                    "airflow_provider_firecrest.operators.array",
                    "airflow_provider_firecrest.operators.cancel",
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
        "task-decorators": [
            {"name": "firecrest", "class-name": "airflow_provider_firecrest.decorators.firecrest.firecrest_task"}
        ],
        "asset-uris": [
            {
                "schemes": ["firecrest"],
                "handler": "airflow_provider_firecrest.assets.sanitize_uri",
                "to_openlineage_converter": "airflow_provider_firecrest.assets.to_openlineage",
            }
        ],
        "extra-links": [
            "airflow_provider_firecrest.links.job.HPCJobLink",
            "airflow_provider_firecrest.links.job.CentreJobLink",
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
                        "host": "FirecREST URL *",
                        "login": "Client ID *",
                        "password": "Client secret *",
                    },
                    "placeholders": {
                        "host": "https://api.example.org/firecrest/v2",
                        "login": "id of your OAuth2 client; empty with an API key",
                        "password": "its secret, or the API key",
                    },
                },
            }
        ],
    }
