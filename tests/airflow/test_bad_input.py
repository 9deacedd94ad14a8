"""What a user can get wrong: each ends the task at once, with one clear message and no retry that cannot help."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_firecrest.operators import (
    FirecRESTDownloadOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
)
from firecrest_core import errors
from firecrest_core.api.client import System


def submit(workdir: Any, **changed: Any) -> Callable[[], Any]:
    given = {"script": "#!/bin/bash\ntrue\n", "working_dir": str(workdir)} | changed
    return lambda: FirecRESTSubmitOperator(task_id="job", **given)


def upload(source: Any, target: Any) -> Callable[[], Any]:
    return lambda: FirecRESTUploadOperator(task_id="up", source_path=str(source), target_path=str(target))


def download(source: Any, target: Any) -> Callable[[], Any]:
    return lambda: FirecRESTDownloadOperator(task_id="down", remote_files=[str(source)], local_path=str(target))


@pytest.fixture
def fails(run_task) -> Callable[..., str]:
    """Run a task that must fail in a clear way, and return its message."""

    def fails(make: Callable[[], Any], kind: type[errors.FirecRESTError], *words: str, retry: bool = False) -> str:
        with pytest.raises(AirflowException) as caught:
            run_task(make)
        error = caught.value
        assert isinstance(error, kind), repr(error)
        assert isinstance(error, AirflowFailException) is not retry
        message = str(error)
        for word in words:
            assert word in message
        # One message: no other exception is shown with it, and no library's frames stand before it.
        assert error.__cause__ is None
        assert error.__suppress_context__
        shown = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in shown if "airflow_provider_firecrest" in frame.filename]
        assert shown[-1] in ours
        assert not [frame for frame in shown if "httpx" in frame.filename or "asyncio" in frame.filename]
        return message

    return fails


def test_wrong_secret(connected, store, stored, workdir, fails) -> None:
    store(stored | {"password": "not-the-secret"})
    message = fails(submit(workdir), errors.AuthenticationFailed, "firecrest-local", "Check")
    assert "not-the-secret" not in message


def test_wrong_url(connected, store, stored, workdir, fails) -> None:
    store(stored | {"host": connected.url + "/wrong"})
    fails(submit(workdir), errors.RequestRejected, connected.url + "/wrong", "FirecREST version 2")


def test_no_url(connected, store, stored, workdir, fails) -> None:
    store(stored | {"host": "ftp://example.org"})
    fails(submit(workdir), errors.ConfigurationError, "'firecrest_default'", "full URL")


def test_unknown_system(connected, workdir, fails) -> None:
    fails(submit(workdir, system="daint"), errors.SystemNotFound, "'daint'", connected.system)


def test_no_system(connected, store, stored, workdir, fails) -> None:
    store(stored | {"extra": {"auth_url": connected.token_url}})
    fails(submit(workdir), errors.ConfigurationError, "no system is named")


def test_unknown_partition(connected, workdir, fails) -> None:
    fails(submit(workdir, job={"partition": "nope"}), errors.SubmissionRejected, "nope", connected.system)


def test_missing_script(connected, workdir, fails) -> None:
    fails(submit(workdir, script=None), errors.InvalidJobSpec, "script", "script_path")


def test_script_without_an_interpreter(connected, workdir, fails) -> None:
    fails(submit(workdir, script="echo hello\n"), errors.UserError, "#!")


def test_script_path_that_does_not_exist(connected, workdir, fails) -> None:
    make = submit(workdir, script=None, script_path=f"{workdir}/nowhere.sh")
    fails(make, errors.UserError, "nowhere.sh")


def test_working_directory_that_does_not_exist(connected, workdir, fails) -> None:
    fails(submit(f"{workdir}/nowhere"), errors.RemotePathNotFound, "working_dir", "nowhere")


def test_working_directory_that_is_left_out(connected, fails) -> None:
    fails(submit("", working_dir=None), errors.InvalidJobSpec, "working_dir")


def test_missing_local_file(connected, workdir, tmp_path, fails) -> None:
    fails(upload(tmp_path / "nowhere.txt", workdir), errors.LocalFileNotFound, "nowhere.txt")


def test_remote_directory_that_does_not_exist(connected, workdir, tmp_path, fails) -> None:
    (tmp_path / "a.txt").touch()
    fails(upload(tmp_path / "a.txt", f"{workdir}/no/where/"), errors.RemotePathNotFound, "no/where")


def test_remote_file_that_does_not_exist(connected, workdir, tmp_path, fails) -> None:
    fails(download(workdir / "no.txt", tmp_path / "no.txt"), errors.RemotePathNotFound, "no.txt")
    assert list(tmp_path.iterdir()) == []


def test_name_with_a_quote(connected, workdir, tmp_path, fails) -> None:
    (tmp_path / "it's.txt").touch()
    fails(upload(tmp_path / "it's.txt", f"{workdir}/"), errors.InvalidFileName, "it's.txt", "quote")
    assert list(workdir.iterdir()) == []


def test_file_over_the_direct_limit_where_nothing_else_is(connected, workdir, tmp_path, fails, monkeypatch) -> None:
    """A site without a staging store."""
    info = System.info

    async def without_store(self):
        return (await info(self)).model_copy(update={"transfer_method": None})

    monkeypatch.setattr(System, "info", without_store)
    (tmp_path / "large.bin").write_bytes(bytes(100_000))
    fails(upload(tmp_path / "large.bin", workdir), errors.FileTooLarge, "100,000 bytes", "65,536", "large.bin")
    (workdir / "large.bin").write_bytes(bytes(100_000))
    fails(download(workdir / "large.bin", tmp_path / "back.bin"), errors.FileTooLarge, "100,000 bytes")
    assert not (tmp_path / "back.bin").exists()


def test_host_that_does_not_exist(connected, store, stored, workdir, fails) -> None:
    store(stored | {"extra": stored["extra"] | {"auth_url": "https://nowhere.invalid/token"}})
    fails(submit(workdir), errors.HostNotFound, "nowhere.invalid", "Check")


@pytest.fixture
def silent() -> Iterator[str]:
    """A host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_host_that_does_not_answer(connected, store, stored, workdir, fails, silent) -> None:
    store(stored | {"host": silent, "extra": stored["extra"] | {"timeout": 0.2}})
    fails(submit(workdir), errors.RequestTimedOut, "did not answer", silent.partition("//")[2], retry=True)


def test_host_that_refuses(connected, store, stored, workdir, fails) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store(stored | {"host": url})
    fails(submit(workdir), errors.ServerUnreachable, "no connection", retry=True)


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """A server with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_certificate_that_is_not_trusted(connected, store, stored, workdir, fails, self_signed) -> None:
    store(stored | {"host": self_signed})
    fails(submit(workdir), errors.TLSFailed, "127.0.0.1", "verify")


def test_ca_bundle_that_does_not_exist(connected, store, stored, workdir, fails) -> None:
    store(stored | {"extra": stored["extra"] | {"verify": "/no/such/ca.pem"}})
    fails(submit(workdir), errors.ConfigurationError, "/no/such/ca.pem")
