"""One embedded cluster: the parts that the endpoints share."""

import os
from dataclasses import replace
from pathlib import Path

from firecrest_local.access.identity import current_identity
from firecrest_local.access.secrets import load_secrets
from firecrest_local.access.token_issuer import TokenIssuer
from firecrest_local.files.confinement import Confinement
from firecrest_local.files.operations import FileOperations
from firecrest_local.files.staging import StagingStore
from firecrest_local.health import Health
from firecrest_local.private_files import make_private_directory
from firecrest_local.scheduler.interface import Scheduler
from firecrest_local.scheduler.process.scheduler import ProcessScheduler
from firecrest_local.scheduler.slurm.commands import slurm_answers
from firecrest_local.scheduler.slurm.scheduler import SlurmScheduler
from firecrest_local.settings import Settings
from firecrest_local.visibility import Visibility


def choose_scheduler(settings: Settings) -> Settings:
    """Replace `auto` in the settings by the scheduler that this machine has."""
    if settings.scheduler != "auto":
        return settings
    return replace(settings, scheduler="slurm" if slurm_answers() else "process")


class Site:
    """The cluster behind the API.

    :param settings: what the user chose. Missing directories are made.
    :param url: where the server listens.
    :ivar others: the other systems behind the same API; they share its tokens and its staging store.
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
        # Each by itself, so that one of an earlier server is closed, too.
        for directory in (self.files, self.home, self.state):
            make_private_directory(directory)
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
        self.others: list[Site] = []
        for name in settings.other_systems:
            other = Site(replace(settings, system=name, other_systems=(), root=root / "systems" / name), url)
            other.issuer, other.staging = self.issuer, self.staging
            self.others.append(other)
