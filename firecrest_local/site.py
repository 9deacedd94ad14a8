"""One embedded cluster: all parts that the endpoints share."""

import os
from dataclasses import replace
from pathlib import Path

from fastapi import Path as PathParameter
from fastapi import Request

from firecrest_local.access.identity import current_identity
from firecrest_local.access.secrets import load_secrets
from firecrest_local.access.token_issuer import TokenIssuer
from firecrest_local.errors import ApiError
from firecrest_local.files.confinement import Confinement
from firecrest_local.files.operations import FileOperations
from firecrest_local.files.staging import StagingStore
from firecrest_local.health import Health
from firecrest_local.scheduler.interface import Scheduler
from firecrest_local.scheduler.process.scheduler import ProcessScheduler
from firecrest_local.scheduler.slurm.scheduler import SlurmScheduler, slurm_answers
from firecrest_local.settings import Settings
from firecrest_local.visibility import Visibility


def choose_scheduler(settings: Settings) -> Settings:
    """The settings with a scheduler where they leave the choice."""
    if settings.scheduler != "auto":
        return settings
    return replace(settings, scheduler="slurm" if slurm_answers() else "process")


class Site:
    """The cluster behind the API.

    Parameters:
        settings: what the user chose. The directories are made when they are missing.
        url: where the server listens.
    """

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings = choose_scheduler(settings)
        self.url = url
        self.identity = current_identity(settings.user)
        root = Path(os.path.realpath(settings.root))
        self.state = root / "state"
        #: What clients see; holds a home directory for the user, as on a cluster.
        self.files = root / "home"
        self.home = self.files / self.identity.user
        self.home.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(mode=0o700, exist_ok=True)
        self.state.chmod(0o700)
        secrets = load_secrets(self.state, settings.client_secret)
        self.confinement = Confinement(self.files, settings.system)
        self.health = Health(settings.system, str(self.files))
        self.issuer = TokenIssuer(
            settings.client_id,
            secrets.client_secret,
            secrets.token_key,
            self.identity.user,
            settings.token_lifetime,
        )
        self.staging = StagingStore(
            self.state / "staging",
            f"{url}/staging",
            secrets.url_key,
            settings.url_lifetime,
            min(settings.max_part_size, StagingStore.SMALLEST_PART),
        )
        self.operations = FileOperations(self.confinement, settings.max_ops_file_size)
        self.visibility = Visibility(settings.accounting_lag if settings.scheduler == "process" else 0.0)
        self.scheduler: Scheduler = (
            ProcessScheduler(settings, self.state, self.confinement, self.identity, self.home, self.visibility)
            if settings.scheduler == "process"
            else SlurmScheduler(settings, self.home, self.visibility)
        )

    # --- checks that endpoints depend on

    def authenticated(self, request: Request) -> None:
        """Refuse a request without a good token, and note whose it is."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"})
        request.state.user = self.issuer.verify(token)

    def known_system(self, system_name: str = PathParameter()) -> None:
        """Refuse a system that isn't this one."""
        if system_name != self.settings.system:
            raise ApiError(404, "System not found")

    def healthy_scheduler(self) -> None:
        """Refuse while the scheduler is unhealthy."""
        self.health.require("scheduler")
        self.health.require("ssh")

    async def given_path(self, request: Request) -> str:
        """The path that a file operation is about, from the query or the body; absolute and inside."""
        normal = self.confinement.path(await self._asked_path(request))
        self.health.require("filesystem")
        return normal

    async def given_tree(self, request: Request) -> str:
        """The same for what is to be packed. `<directory>/.` stays: then tar's root is `.`, also behind a link."""
        path = await self.given_path(request)
        return f"{path}/." if (await self._asked_path(request)).endswith("/.") else path

    @staticmethod
    async def _asked_path(request: Request) -> str:
        path = request.query_params.get("path")
        if path is None:
            try:
                body = await request.json()
                path = next(body[name] for name in ("sourcePath", "source_path", "path") if name in body)
            except (ValueError, TypeError, StopIteration):
                raise ApiError(
                    400,
                    "Unable to decode request and retreive the required path or source_path parameter.",
                ) from None
        if not isinstance(path, str):
            raise ApiError(400, "All filesystem requests require a path or source_path parameter.")
        return path
