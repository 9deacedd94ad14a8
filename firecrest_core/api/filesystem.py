"""The endpoints ``/filesystem/{system}``: files, and transfers that run as jobs."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, TypeVar

from firecrest_core.api.answers import parse
from firecrest_core.api.endpoints import SystemEndpoints, names_file_systems
from firecrest_core.api.exchange import LARGEST_ANSWER, LIMITS, ExchangeLimits
from firecrest_core.api.models import (
    BegunTransfer,
    Checksum,
    DownloadTicket,
    FileInfo,
    FilePart,
    FileStat,
    FileText,
    TransferJob,
    UploadTicket,
)
from firecrest_core.api.remote_paths import check_remote_path
from firecrest_core.api.requests import Requests
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.errors import (
    AnswerTooLarge,
    ConfigurationError,
    FileTooLarge,
    FirecRESTError,
    RemotePathNotFound,
    RequestRejected,
    ServerFault,
    TransferFailed,
)
from firecrest_core.urls import sends_in_clear

OLD_SERVER = "its FirecREST is older than 2.4.0, the first version whose staging store can be used from here."

Ticket = TypeVar("Ticket", UploadTicket, DownloadTicket)


class UnreadableTicket(ServerFault):
    """The server began a transfer job, but its answer does not say where the content goes to or comes from.

    :param message: what cannot be read
    :param job: the job, which has to be cancelled
    """

    #: The type of the error for the caller of a transfer, once the job is cancelled.
    becomes: type[FirecRESTError] = TransferFailed

    def __init__(self, message: str, job: TransferJob) -> None:
        super().__init__(message)
        self.job = job


class UnprotectedTicket(UnreadableTicket):
    """The server's URLs for the content are plain http, and anybody who reads them on the way can use them."""

    becomes = ConfigurationError


class FilesystemEndpoints(SystemEndpoints):
    """List, read, change and transfer files.

    What takes a path raises :exc:`~firecrest_core.errors.InvalidFileName` where the server's shell commands could not
    take it.
    """

    def __init__(self, requests: Requests, name: str) -> None:
        super().__init__(requests, name)
        self._directories: set[str] = set()

    # --- reading --------------------------------------------------------------------------------

    @names_file_systems
    async def list_files(
        self, path: str, *, hidden: bool = False, recursive: bool = False, dereference: bool = False
    ) -> list[FileInfo]:
        """List a directory, or a single file.

        Users and groups are numeric ids. With names, the server leaves out each line whose group has a blank in its
        name, as ``domain users`` has.

        :param path: absolute path on the system
        :param hidden: include names that begin with a dot
        :param recursive: include all directories below
        :param dereference: follow symbolic links
        :raises RemotePathNotFound: nothing is there
        """
        check_remote_path(path)
        what = f"Listing of {path} on {self.name}"
        request = self._requests.pyfirecrest.list_files(
            self.name, path, show_hidden=hidden, recursive=recursive, numeric_uid=True, dereference=dereference
        )
        return parse(list[FileInfo], await self._requests.answer(request, what), what)

    @names_file_systems
    async def stat(self, path: str, *, dereference: bool = True) -> FileStat:
        """Return the kind, size and time of what is at a path.

        :param path: absolute path on the system
        :param dereference: follow symbolic links
        :raises RemotePathNotFound: nothing is there
        """
        check_remote_path(path)
        what = f"stat of {path} on {self.name}"
        request = self._requests.pyfirecrest.stat(self.name, path, dereference=dereference)
        return parse(FileStat, await self._requests.answer(request, what), what)

    async def is_directory(self, path: str) -> bool:
        """Tell whether ``path`` is a directory; ``False`` if nothing is there."""
        try:
            return (await self.stat(path)).is_directory
        except RemotePathNotFound:
            return False

    async def has_directory(self, path: str) -> bool:
        """Tell whether ``path`` is a directory. One that was found once costs this object no further request."""
        if path not in self._directories and await self.is_directory(path):
            self._directories.add(path)
        return path in self._directories

    @names_file_systems
    async def sha256(self, path: str) -> str:
        """Return the SHA-256 of a file in hexadecimal.

        :param path: absolute path on the system
        :raises RequestTimedOut: the file is too large for the server's command timeout (5 s by default)
        """
        check_remote_path(path)
        what = f"Checksum of {path} on {self.name}"
        answer = await self._requests.answer(self._requests.pyfirecrest.checksum(self.name, path), what)
        return parse(Checksum, answer, what).checksum.removeprefix("\\")  # sha256sum marks an escaped file name so

    async def tail(self, path: str, *, lines: int | None = None, num_bytes: int | None = None) -> str:
        """Return the end of a text file.

        :param path: absolute path on the system
        :param lines: how many lines
        :param num_bytes: how many bytes, instead of ``lines``
        """
        return await self._tail(path, num_bytes=num_bytes, num_lines=lines)

    @names_file_systems
    async def read_from(self, path: str, offset: int, *, most: int = LARGEST_ANSWER) -> str:
        """Return a text file from a byte to its end.

        :param path: absolute path on the system
        :param offset: bytes to leave out at the beginning
        :param most: bytes of the answer that are read at most
        :returns: the text; each byte that is none is a replacement character
        :raises FileTooLarge: there is more, or the server does not send so much
        """
        check_remote_path(path)
        what = f"Tail of {path} on {self.name}"
        limits = ExchangeLimits.for_content(self._requests.connection.timeout, received=most)
        try:
            response = await self._requests.session.get(
                self._path("filesystem", "ops", "tail"),
                params={"path": path, "bytes": offset + 1, "skipHeading": "true"},
                extensions={LIMITS: limits},
            )
        except AnswerTooLarge as error:
            raise FileTooLarge(str(error)) from None
        return parse(FilePart, self._requests.session.read_json(response, 200, what), what).output.content

    @names_file_systems
    async def _tail(self, path: str, /, **how: Any) -> str:
        check_remote_path(path)
        what = f"Tail of {path} on {self.name}"
        answer = await self._requests.answer(self._requests.pyfirecrest.tail(self.name, path, **how), what)
        return parse(FileText, answer, what).content

    # --- changing -------------------------------------------------------------------------------

    @names_file_systems
    async def make_directory(self, path: str, *, parents: bool = True) -> None:
        """Create a directory.

        :param path: absolute path on the system
        :param parents: create the directories above, too, and accept a directory that exists already
        """
        check_remote_path(path)
        request = self._requests.pyfirecrest.mkdir(self.name, path, create_parents=parents)
        await self._requests.answer(request, f"mkdir of {path} on {self.name}")

    @names_file_systems
    async def chmod(self, path: str, mode: str) -> None:
        """Change who may read, write and enter a file or directory.

        :param path: absolute path on the system
        :param mode: octal, such as ``600``
        :raises RemotePathRefused: it belongs to somebody else
        """
        check_remote_path(path)
        request = self._requests.pyfirecrest.chmod(self.name, path, mode)
        await self._requests.answer(request, f"chmod of {path} on {self.name}")

    @names_file_systems
    async def symlink(self, target: str, link: str) -> None:
        """Create a symbolic link in one atomic step.

        :param target: the absolute path that the link points to; it does not have to exist
        :param link: the absolute path of the link. No link to a directory may be there, because then the new link would
            be created inside that directory.
        :raises RemotePathExists: ``link`` exists already
        """
        request = self._requests.pyfirecrest.symlink(self.name, check_remote_path(target), check_remote_path(link))
        await self._requests.answer(request, f"symlink {link} on {self.name}")

    @names_file_systems
    async def remove(self, path: str, *, missing_ok: bool = False) -> None:
        """Remove a file or a directory tree.

        :param path: absolute path on the system
        :param missing_ok: nothing at ``path`` is no error
        """
        check_remote_path(path)
        try:
            response = await self._requests.session.delete(self._path("filesystem", "ops", "rm"), params={"path": path})
        except RemotePathNotFound:
            if not missing_ok:
                raise
            return
        self._requests.session.read_json(response, 204, f"Removal of {path} on {self.name}")

    @names_file_systems
    async def upload_small(self, directory: str, name: str, content: bytes) -> None:
        """Write a small file in one request.

        :param directory: absolute path of an existing directory on the system
        :param name: the file's name in it
        :param content: not empty, and at most ``max_ops_file_size`` bytes; the caller checks both
        """
        check_remote_path(posixpath.join(directory, name))
        response = await self._requests.session.post(
            self._path("filesystem", "ops", "upload"), params={"path": directory}, files={"file": (name, content)}
        )
        self._requests.session.read_json(response, 204, f"Upload of {name} to {directory} on {self.name}")

    @names_file_systems
    async def download_small(self, path: str, *, most: int = LARGEST_ANSWER) -> bytes:
        """Read a small file in one request.

        :param path: absolute path on the system
        :param most: bytes that are read at most
        :returns: the file's content
        :raises FileTooLarge: the file has more bytes, or the server or a gateway does not send so many
        """
        check_remote_path(path)
        limits = ExchangeLimits.for_content(self._requests.connection.timeout, received=most)
        try:
            response = await self._requests.session.get(
                self._path("filesystem", "ops", "download"), params={"path": path}, extensions={LIMITS: limits}
            )
        except AnswerTooLarge as error:
            raise FileTooLarge(str(error)) from None
        return response.content

    @names_file_systems
    async def compress(self, source: str, archive: str, *, dereference: bool) -> None:
        """Pack a file or directory into an archive (``tar`` with gzip), within the server's command timeout.

        :param source: absolute path on the system
        :param archive: absolute path of the archive
        :param dereference: pack what symbolic links point to
        :raises RequestTimedOut: it takes longer; :meth:`start_transfer` has no such limit
        """
        request = self._requests.pyfirecrest.compress(self.name, source, archive, dereference=dereference)
        await self._requests.answer(request, f"Packing of {source} on {self.name}")

    @names_file_systems
    async def extract(self, archive: str, directory: str) -> None:
        """Unpack an archive into a directory, within the server's command timeout.

        :param archive: absolute path on the system
        :param directory: absolute path of an existing directory
        :raises RequestTimedOut: it takes longer; :meth:`start_transfer` has no such limit
        """
        request = self._requests.pyfirecrest.extract(self.name, archive, directory)
        await self._requests.answer(request, f"Unpacking of {archive} on {self.name}")

    # --- transfers that run as jobs ----------------------------------------------------------------

    @without_frames
    async def start_upload(self, path: str, size: int, *, account: str | None = None) -> UploadTicket:
        """Start the upload of a large file by way of the staging store.

        The server queues the job that will fetch the file from there at once.

        :param path: the file's path on the system
        :param size: bytes; the server returns one URL for each ``maxPartSize`` of it
        :param account: the account to charge for the job
        :returns: the job, and the URLs to send the parts to
        :raises UnreadableTicket: the job was begun, but the rest of the answer cannot be read
        :raises UnprotectedTicket: the job was begun, but the URLs are plain http, which the connection does not allow
        """
        what = f"Upload to {path} on {self.name}"
        body = {"path": path, "transferDirectives": {"transferMethod": "s3", "fileSize": size}, "account": account}
        try:
            answer = await self._start("upload", body)
        except RequestRejected as error:
            if "fileName" not in str(error):  # a field that 2.3.1 asks for
                raise
            raise RequestRejected(f"{what}: {OLD_SERVER}") from None
        return self._ticket(UploadTicket, answer, what)

    @without_frames
    async def start_download(self, path: str, *, account: str | None = None) -> DownloadTicket:
        """Start the download of a large file by way of the staging store.

        :param path: the file's path on the system
        :param account: the account to charge for the job
        :returns: the job that copies the file to the store, and the URL where it will be
        :raises UnreadableTicket: the job was begun, but the rest of the answer cannot be read
        :raises UnprotectedTicket: the job was begun, but the URLs are plain http, which the connection does not allow
        """
        what = f"Download of {path} on {self.name}"
        body = {"path": path, "transferDirectives": {"transferMethod": "s3"}, "account": account}
        answer = await self._start("download", body)
        if isinstance(answer, dict) and "downloadUrl" in answer and "transferDirectives" not in answer:
            raise UnreadableTicket(f"{what}: {OLD_SERVER}", parse(BegunTransfer, answer, what).job)
        return self._ticket(DownloadTicket, answer, what)

    async def start_transfer(self, operation: str, body: Mapping[str, Any]) -> TransferJob:
        """Start ``mv``, ``cp``, ``compress`` or ``extract`` as a job of the scheduler.

        :param operation: one of these four words
        :param body: as the endpoint ``transfer/<operation>`` documents it, for example ``path`` and ``targetPath``
        :returns: the job
        """
        answer = await self._start(operation, dict(body))
        return parse(BegunTransfer, answer, f"transfer/{operation} on {self.name}").job

    @names_file_systems
    async def _start(self, operation: str, body: dict[str, Any]) -> Any:
        response = await self._requests.session.post(self._path("filesystem", "transfer", operation), json=body)
        return self._requests.session.read_json(response, 201, f"transfer/{operation} on {self.name}")

    def _ticket(self, form: type[Ticket], answer: Any, what: str) -> Ticket:
        try:
            ticket = parse(form, answer, what)
        except ServerFault as error:
            raise UnreadableTicket(str(error), parse(BegunTransfer, answer, what).job) from None
        plain = [url for url in ticket.urls if sends_in_clear(url.get_secret_value())]
        if plain and not self._requests.connection.allow_http:
            raise UnprotectedTicket(
                f"{what}: the site's staging store is used over plain http, where everybody on the way can read the "
                "content and the URLs that give access to it. Ask the site for https, or set allow_http.",
                ticket.job,
            )
        return ticket
