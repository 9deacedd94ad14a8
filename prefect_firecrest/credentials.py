"""The block that holds where a FirecREST is and how to sign in to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator

from firecrest_core.connection import Connection
from firecrest_core.documentation import page_url
from firecrest_core.errors import ConfigurationError
from firecrest_core.near_names import suggestion
from prefect_firecrest.handed_over import read_credentials_again
from prefect_firecrest.prefect_internals import block_name, is_block_metadata, take_identity, unknown_fields

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient


class FirecRESTCredentials(CredentialsBlock):
    """
    One FirecREST v2 deployment and the way to sign in to it.

    Example:
        ```python
        from prefect import flow
        from prefect_firecrest import FirecRESTCredentials, alist_files, list_files


        @flow
        def home():
            credentials = FirecRESTCredentials.load("BLOCK_NAME")
            return list_files(credentials, "~")


        @flow
        async def ahome():
            credentials = await FirecRESTCredentials.aload("BLOCK_NAME")
            return await alist_files(credentials, "~")
        ```
    """

    # An error must not repeat the secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "FirecREST Credentials"
    _block_type_slug = "firecrest-credentials"
    _logo_url = HttpUrl(page_url("images/logo.svg"))
    _documentation_url = HttpUrl(page_url("prefect.html#credentials"))

    url: str = Field(
        description="Root of the API.",
        examples=["https://api.cscs.ch/hpc/firecrest/v2"],
    )
    auth: str = Field(
        default="client_secret_post",
        title="Way to sign in",
        description="client_secret_post or client_secret_basic (an OAuth2 client), api_key, or a token of your own: "
        "command:<command line>, file:<path> or env:<VARIABLE>.",
        examples=["client_secret_post", "client_secret_basic", "api_key", "file:/run/secrets/firecrest-token"],
    )
    token_url: str = Field(
        default="",
        title="Token URL",
        description="Token endpoint of the site's identity provider, for an OAuth2 client.",
        examples=["https://auth.cscs.ch/auth/realms/firecrest-clients/protocol/openid-connect/token"],
    )
    client_id: str = Field(
        default="", title="Client ID", description="Id of the OAuth2 client (client credentials grant)."
    )
    client_secret: SecretStr = Field(
        description="Secret of the OAuth2 client, or the API key. With a token of your own, any long random text: it "
        "signs the records by which jobs are cancelled."
    )
    scopes: list[str] = Field(
        default_factory=list, description="OAuth2 scopes to ask for; the provider's default when empty."
    )
    system: str | None = Field(default=None, description="The system of calls that name none.", examples=["daint"])
    timeout: float = Field(default=30.0, gt=0, description="Seconds that one request may take.")
    verify: bool | str = Field(
        default=True, title="Verify TLS", description="Whether to check TLS certificates, or the path of a CA bundle."
    )
    client_cert: str | None = Field(
        default=None,
        title="Client certificate",
        description="Path of a PEM file with a certificate and its key, for servers that ask for one (mutual TLS).",
    )
    proxy: SecretStr | None = Field(
        default=None,
        description="Proxy of all requests, such as http://user:password@proxy.example.org:3128. Without it, "
        "HTTPS_PROXY and NO_PROXY count.",
    )
    allow_http: bool = Field(
        default=False,
        title="Allow plain http",
        description="Whether to send secrets without encryption where a URL begins with http://.",
    )
    max_in_flight: int = Field(
        default=4,
        ge=1,
        title="Requests in flight",
        description="Requests at once. A site's sshd allows ten sessions, and more than four requests can exceed that.",
    )
    base_dir: str | None = Field(
        default=None,
        title="Base directory",
        description="Directory on the systems that relative paths begin at.",
        examples=["$SCRATCH/flows"],
    )
    paths: dict[str, str] = Field(
        default_factory=dict,
        description="More names for paths on the systems: PROJECT lets jobs write $PROJECT/data.",
        examples=[{"PROJECT": "/project/x"}],
    )

    job_url: str = Field(
        default="",
        title="Job page",
        description="URL of a job's page in the centre's own web interface, to which logs and tables link. It may name "
        "{system}, {job_id}, {name}, {account}, {partition}, {nodes}, {start} and {end}.",
        examples=["https://ui.example.org/{system}/jobs/{job_id}"],
    )

    presets: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        repr=False,
        description="Fields that many jobs share, by the names of presets. A file firecrest-presets.toml beside the "
        "flow comes first.",
        examples=[{"train": {"partition": "gpu", "modules": ["pytorch"]}}],
    )

    @model_validator(mode="before")
    @classmethod
    def _read_again(cls, values: Any) -> Any:
        return read_credentials_again(values, cls.get_block_type_slug()) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in unknown_fields(self):
            self._check_name(name)
        self.connection()
        take_identity(self)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a misspelt name where it is written."""
        if not is_block_metadata(name):
            self._check_name(name)
        super().__setattr__(name, value)

    def _check_name(self, name: str) -> None:
        """Refuse a name that is no field: a misspelt one must not be lost without a word."""
        if name not in (fields := type(self).model_fields):
            raise ConfigurationError(f"{name}: no such field; {suggestion(name, fields)}")

    @classmethod
    def from_environment(cls) -> Self:
        """Return the credentials that the environment holds, under the names that CSCS's documentation uses.

        They are FIRECREST_URL, AUTH_TOKEN_URL, FIRECREST_CLIENT_ID, FIRECREST_CLIENT_SECRET and, if wanted,
        FIRECREST_SYSTEM, FIRECREST_ALLOW_HTTP, FIRECREST_PROXY and FIRECREST_CLIENT_CERT. FIRECREST_AUTH names another
        way to sign in; an API key is FIRECREST_API_KEY.

        :raises ConfigurationError: naming every variable that is missing, or the one that cannot be right
        """
        found = Connection.from_environment()
        return cls(
            url=found.url,
            auth=found.auth,
            token_url=found.token_url,
            client_id=found.client_id,
            client_secret=found.secret,
            system=found.system,
            client_cert=found.client_cert,
            proxy=found.proxy_url,
            allow_http=found.allow_http,
            base_dir=found.base_dir,
        )

    @property
    def saved_as(self) -> str | None:
        """The block's name, by which another process reads it; ``None`` while it was not saved."""
        return block_name(self)

    def connection(self) -> Connection:
        """Return these credentials as the core takes them, without the line break that a copied value ends in.

        :raises ConfigurationError: when a value is missing or is no URL
        """
        return Connection(
            url=self.url.strip(),
            auth=self.auth,
            token_url=self.token_url.strip(),
            client_id=self.client_id.strip(),
            client_secret=SecretStr(self.client_secret.get_secret_value().strip()),
            scopes=tuple(self.scopes),
            system=self.system,
            timeout=self.timeout,
            verify=self.verify,
            client_cert=self.client_cert,
            proxy=self.proxy,
            allow_http=self.allow_http,
            max_in_flight=self.max_in_flight,
            base_dir=self.base_dir or None,
            paths=self.paths,
            job_url=self.job_url,
            presets=self.presets,
            kept_in="credentials block",
        )

    def get_client(self) -> FirecRESTClient:
        """Return a client, which is an asynchronous context manager and belongs to one event loop."""
        from firecrest_core.api.client import FirecRESTClient

        return FirecRESTClient(self.connection())
