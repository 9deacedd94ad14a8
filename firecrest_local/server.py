"""The embedded server as an object that starts and stops."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from socket import socket
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from firecrest_local.access.token_issuer import TokenIssuer
from firecrest_local.access_log import NoAccessLog
from firecrest_local.api.middleware import RequestCounter
from firecrest_local.app import create_app
from firecrest_local.faults.connections import TransportProtocol
from firecrest_local.faults.control import FaultControl
from firecrest_local.faults.server import FaultyServer
from firecrest_local.health import Health
from firecrest_local.kept_port import keep_port, read_port
from firecrest_local.listener import HOST, listen
from firecrest_local.root_lock import RootLock
from firecrest_local.settings import Settings
from firecrest_local.site import Site


class Protocol(NoAccessLog, AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """The fastest of uvicorn's protocols that is installed."""


class LocalFirecREST:
    """An embedded FirecREST v2 server, for development and tests.

    It listens on 127.0.0.1 in a thread of this process. Its jobs are processes of this machine, or Slurm's. As a
    context manager it starts on entry. On exit it stops itself and every running job, except those of Slurm.

    :param settings: what to serve; the defaults suit a laptop.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._counter = RequestCounter()
        self._site: Site | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._lock: RootLock | None = None
        self._faults: FaultControl | None = None

    def start(self) -> None:
        """Begin to serve. Returns when requests are answered.

        :raises OSError: the port is taken, another server uses this root, or the Slurm of the settings doesn't answer.
        :raises RuntimeError: the server could not start.
        """
        with ExitStack() as undo:
            lock = RootLock(self.settings.root)
            undo.callback(lock.release)
            wanted = self.settings.port
            listener = undo.enter_context(listen(read_port(self.settings.root / "state") if wanted is None else wanted))
            port = listener.getsockname()[1]
            site = Site(self.settings, f"http://{HOST}:{port}")
            keep_port(site.state, port)
            faults = None if self.settings.faults is None else FaultControl(self.settings.faults, site.visibility)
            server, thread = self._serve(site, listener, faults)
            undo.pop_all()
        self._faults = faults
        self._site, self._server, self._thread, self._lock = site, server, thread, lock

    def _serve(
        self, site: Site, listener: socket, faults: FaultControl | None
    ) -> tuple[uvicorn.Server, threading.Thread]:
        config = uvicorn.Config(
            create_app(site, self._counter, faults),
            http=Protocol if faults is None else TransportProtocol,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        if faults is None:
            server = uvicorn.Server(config)
        else:
            server = FaultyServer(config, faults, listener.getsockname()[1])
        thread = threading.Thread(target=server.run, args=([listener],), name="firecrest-local-server", daemon=True)
        for one in (site, *site.others):
            one.scheduler.start()
        site.staging.expiry.start()
        thread.start()
        while not server.started:
            if not thread.is_alive():
                site.staging.expiry.stop()
                for one in (site, *site.others):
                    one.scheduler.stop()
                raise RuntimeError("the server ended before it had started")
            time.sleep(0.005)
        return server, thread

    def stop(self) -> None:
        """Stop serving, and stop every running job except those of Slurm.

        Waiting jobs stay queued for the next start.
        """
        if self._site is None or self._server is None or self._thread is None or self._lock is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._site.staging.expiry.stop()
        for one in (self._site, *self._site.others):
            one.scheduler.stop()
        self._lock.release()
        self._site = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # --- for users of the object

    @property
    def _running(self) -> Site:
        if self._site is None:
            raise RuntimeError("the embedded FirecREST isn't running")
        return self._site

    @property
    def url(self) -> str:
        """Where the API answers."""
        return self._running.url

    @property
    def token_url(self) -> str:
        """Where tokens come from."""
        return f"{self.url}/token"

    @property
    def client_id(self) -> str:
        """The client that gets tokens."""
        return self.settings.client_id

    @property
    def client_secret(self) -> str:
        """The client's secret."""
        return self.issuer.client_secret

    @property
    def system(self) -> str:
        """The name of the system; of several, the first one."""
        return self.settings.system

    @property
    def user(self) -> str:
        """The name of the one user."""
        return self._running.identity.user

    @property
    def home(self) -> Path:
        """The user's home directory on the cluster."""
        return self._running.home

    def home_on(self, system: str) -> Path:
        """Return the user's home directory on one of several systems.

        :param system: its name.
        """
        return next(one.home for one in (self._running, *self._running.others) if one.settings.system == system)

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables with which a client reaches this server, by an API key if it takes any."""
        sign_in = {}
        if self.settings.api_keys:
            sign_in = {"FIRECREST_AUTH": "api_key", "FIRECREST_API_KEY": self.settings.api_keys[0]}
        elif self.settings.token_auth:
            sign_in = {"FIRECREST_AUTH": self.settings.token_auth}
        return {
            **sign_in,
            "FIRECREST_URL": self.url,
            "AUTH_TOKEN_URL": self.token_url,
            "FIRECREST_CLIENT_ID": self.client_id,
            "FIRECREST_CLIENT_SECRET": self.client_secret,
            "FIRECREST_SYSTEM": self.system,
            "FIRECREST_WORKDIR": str(self.home),
        }

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """The number of requests for each (method, route), e.g. `("GET", "/compute/{system_name}/jobs")`."""
        return self._counter.counts

    @property
    def health(self) -> Health:
        """The results of the health probes. A test can set them."""
        return self._running.health

    @property
    def issuer(self) -> TokenIssuer:
        """What issues tokens. A test can issue tokens of any lifetime, and rotate the client's secret."""
        return self._running.issuer

    @property
    def faults(self) -> FaultControl:
        """The faults that are injected, and a record of them. A test can set them.

        :raises RuntimeError: the server was started without `Settings.faults`.
        """
        if self._faults is None:
            raise RuntimeError("this embedded FirecREST injects no faults: it was started without Settings.faults")
        return self._faults
