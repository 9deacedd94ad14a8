"""The methods of the hook that copy, list and read files on a system."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from airflow_provider_firecrest.assets import Copied, report_lineage
from airflow_provider_firecrest.hooks.connected import ConnectedHook
from firecrest_core.errors import FileTooLarge, RemotePathRefused

if TYPE_CHECKING:
    from firecrest_core.api.models import FileInfo
    from firecrest_core.transfer import Transferred

    LocalPath = str | PathLike[str]


class FileMethods(ConnectedHook):
    """Files on systems, for a task's own function."""

    def upload(self, source: LocalPath, target: str, *, system: str | None = None) -> Transferred:
        """Copy a file or a directory to a system, whatever its size, and compare size and SHA-256 at the end.

        :param source: a local path, or an ``ObjectStoragePath``
        :param target: the path on the system. If it ends in ``/`` or is a directory, the source keeps its name
        :param system: the system; the connection's default system if left out
        """
        return self.run(self.aupload(source, target, system=system))

    async def aupload(self, source: LocalPath, target: str, *, system: str | None = None) -> Transferred:
        """Do what :meth:`upload` does."""
        from firecrest_core import paths, transfer

        async with self.client() as client:
            where = client.system(system)
            uploaded = await transfer.upload(where, source, await paths.expand(where, target))
        report_lineage(self, [Copied(where.name, uploaded, fetched=False)])
        return uploaded

    def download(
        self,
        source: str,
        target: LocalPath,
        *,
        system: str | None = None,
        max_unpacked_size: int | None = None,
        max_unpacked_files: int | None = None,
    ) -> Transferred:
        """Copy a file or a directory from a system. A file appears under its name only when it is whole.

        :param source: the path on the system
        :param target: a local path or an ``ObjectStoragePath``. If it ends in ``/`` or is a directory, the source keeps
            its name
        :param system: the system; the connection's default system if left out
        :param max_unpacked_size: bytes that a directory may have in all; nine tenths of the free disk unless given
        :param max_unpacked_files: how many files a directory may have in all; a million unless given
        """
        limits = {"max_unpacked_size": max_unpacked_size, "max_unpacked_files": max_unpacked_files}
        return self.run(self.adownload(source, target, system=system, **limits))

    async def adownload(
        self,
        source: str,
        target: LocalPath,
        *,
        system: str | None = None,
        max_unpacked_size: int | None = None,
        max_unpacked_files: int | None = None,
    ) -> Transferred:
        """Do what :meth:`download` does."""
        from firecrest_core import paths, transfer

        async with self.client() as client:
            where = client.system(system)
            downloaded = await transfer.download(
                where,
                await paths.expand(where, source),
                target,
                max_unpacked_size=max_unpacked_size,
                max_unpacked_files=max_unpacked_files,
            )
        report_lineage(self, [Copied(where.name, downloaded, fetched=True)])
        return downloaded

    def list_files(self, path: str, *, system: str | None = None, hidden: bool = False) -> list[FileInfo]:
        """List a directory, or a file alone.

        :param path: absolute path
        :param system: the system; the connection's default system if left out
        :param hidden: names that begin with a dot, too
        :raises RemotePathNotFound: when it does not exist
        """
        return self.run(self.alist_files(path, system=system, hidden=hidden))

    async def alist_files(self, path: str, *, system: str | None = None, hidden: bool = False) -> list[FileInfo]:
        """Do what :meth:`list_files` does."""
        from firecrest_core import paths

        async with self.client() as client:
            where = client.system(system)
            return await where.list_files(await paths.expand(where, path), hidden=hidden)

    def make_directory(self, path: str, *, system: str | None = None) -> str:
        """Make a directory, and those above it. One that exists is no error.

        :param path: the path on the system
        :param system: the system; the connection's default system if left out
        :returns: its absolute path
        """
        return self.run(self.amake_directory(path, system=system))

    async def amake_directory(self, path: str, *, system: str | None = None) -> str:
        """Do what :meth:`make_directory` does."""
        from firecrest_core import paths

        async with self.client() as client:
            where = client.system(system)
            path = await paths.expand(where, path)
            await where.make_directory(path)
        return path

    def read_text(self, path: str, *, system: str | None = None) -> str:
        """Return the content of a small text file in UTF-8. ``download`` is for all others.

        :param path: absolute path
        :param system: the system; the connection's default system if left out
        :raises RemotePathNotFound: when it does not exist
        :raises RemotePathRefused: when it is no text in UTF-8
        :raises FileTooLarge: when it is larger than the site allows for one request (5 MiB on most sites)
        """
        return self.run(self.aread_text(path, system=system))

    async def aread_text(self, path: str, *, system: str | None = None) -> str:
        """Do what :meth:`read_text` does."""
        from firecrest_core import paths

        async with self.client() as client:
            where = client.system(system)
            path = await paths.expand(where, path)
            try:
                content = await where.download_small(path)
                return content.decode()
            except FileTooLarge:
                raise FileTooLarge(
                    f"{path} on {where} is too large to be read in one request. Download it instead."
                ) from None
            except UnicodeDecodeError as error:
                raise RemotePathRefused(
                    f"{path} on {where} is no text in UTF-8 (its byte {error.start} is {content[error.start]:#04x}). "
                    "Download it instead."
                ) from None

    def tail(self, path: str, *, lines: int = 20, system: str | None = None) -> str:
        """Return the last lines of a text file, as they are.

        :param path: the path on the system
        :param lines: how many lines, at least one
        :param system: the system; the connection's default system if left out
        :raises RemotePathNotFound: when it does not exist
        :raises FileTooLarge: when these lines are larger than the site allows for one request
        """
        return self.run(self.atail(path, lines=lines, system=system))

    async def atail(self, path: str, *, lines: int = 20, system: str | None = None) -> str:
        """Do what :meth:`tail` does."""
        from firecrest_core import paths

        async with self.client() as client:
            where = client.system(system)
            path = await paths.expand(where, path)
            try:
                return await where.tail(path, lines=lines)
            except FileTooLarge:
                raise FileTooLarge(
                    f"The last lines of {path} on {where} ({lines}) are too large to be read in one request. Ask for "
                    "fewer, or download it."
                ) from None
