"""The files of one job: its inputs, sent before it is submitted, and its outputs, fetched when it has ended.

A path on the system is relative to the job's working directory, or absolute, or from ``~`` or a variable. A target that
ends in ``/``, or that is a directory, takes a file under the file's own name. A directory becomes the target itself,
and is merged into one that is there. So a second call ends in the same place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import posixpath
from collections.abc import Iterable
from typing import Any, TypeAlias

from firecrest_core import paths, transfer
from firecrest_core.api.client import System
from firecrest_core.errors import InvalidFileName, RemotePathNotFound
from firecrest_core.jobs.submission import check_working_dir
from firecrest_core.result import JobResult
from firecrest_core.transfer import LocalPath, PendingTransfer, RemoteFile, Transferred
from firecrest_core.transfer.local_errors import local_errors
from firecrest_core.transfer.localside import StoredPath, as_local_path, expand_home, own_name

log = logging.getLogger(__name__)

_MOST_NAMED = 5

Inputs: TypeAlias = Iterable[tuple[LocalPath, str]]
"""For each its path on our side, and its path on the system."""
Outputs: TypeAlias = Iterable[tuple[str, LocalPath]]
"""For each its path on the system, perhaps with wildcards, and its path on our side. In texts, ``{job_id}`` stands for
the job's id. What wildcards match goes into the second as a directory."""


def check_files(inputs: Inputs, outputs: Outputs) -> None:
    """Refuse what can be known to be wrong before anything is sent.

    :param inputs: what is to be sent
    :param outputs: what is to be fetched
    :raises InvalidFileName: something is no path, or two files would become one
    :raises LocalFileNotFound: a path on our side is a URL, which lacks the credentials for the store
    """
    sent, fetched = list(inputs), list(outputs)
    for argument, local, remote in (
        *(("inputs", *pair) for pair in sent),
        *(("outputs", *pair[::-1]) for pair in fetched),
    ):
        if not isinstance(remote, str) or not remote.strip():
            raise InvalidFileName(f"{argument}: {remote!r} is no path on a system.")
        if not isinstance(local, str | os.PathLike | StoredPath) or not str(local).strip():
            raise InvalidFileName(f"{argument}: {local!r} is no path on this side.")
    takers: dict[str, str] = {}
    for source, target in sent:
        _take(takers, _named(target, own_name(as_local_path(source))), str(expand_home(source)))
    takers.clear()
    for path, taker in fetched:
        taker = expand_home(taker)
        as_local_path(taker)
        if not transfer.is_pattern(path):
            _take(takers, _named(str(taker), posixpath.basename(path.rstrip("/"))), path)


def shared_places(outputs: Outputs) -> list[str]:
    """Return where outputs go that would go to the same place for any other job: those without ``{job_id}``.

    :param outputs: what is to be fetched, after :func:`check_files`
    """
    places = []
    for path, target in outputs:
        name = posixpath.basename(path.rstrip("/"))
        place = str(target) if transfer.is_pattern(path) else _named(str(target), name)
        own = posixpath.join(place, name) if transfer.is_pattern(path) else place
        if "{job_id}" not in own:
            places.append(posixpath.normpath(place))
    return places


async def upload_inputs(
    system: System, working_dir: str, inputs: Inputs, *, account: str | None = None
) -> list[Transferred]:
    """Send the files that a job needs. The directories of relative targets are made.

    :param system: where the job will run
    :param working_dir: absolute path of its working directory
    :param inputs: what to send
    :param account: the account to charge for transfer jobs, if the site requires one
    :returns: what was sent
    :raises RemotePathNotFound: the working directory does not exist
    :raises InvalidFileName: two of them would become one file
    :raises FirecRESTError: as :func:`firecrest_core.paths.expand` and :func:`firecrest_core.transfer.upload`
    """
    await check_working_dir(system, working_dir)  # it must not be made here, as it may be misspelt
    sent: list[Transferred] = []
    takers: dict[str, str] = {}
    made = {working_dir.rstrip("/"), posixpath.dirname(working_dir.rstrip("/"))}
    for source, target in inputs:
        source = expand_home(source)
        place = await paths.expand(system, paths.join(paths.escaped(working_dir), target))
        place = _named(place.removesuffix("/."), own_name(as_local_path(source)))
        directory = posixpath.dirname(place)
        if paths.is_relative(target) and directory not in made:
            await system.make_directory(directory)
            made.add(directory)
        tree = await _is_directory(source)
        sent.append(await transfer.upload(system, source, place, exact=tree, account=account))
        _take(takers, sent[-1].remote, str(source))
        log.info("Sent %s to %s on %s.", source, sent[-1].remote, system)
    return sent


async def fetch_outputs(
    system: System, result: JobResult, outputs: Outputs, *, account: str | None = None
) -> list[Transferred]:
    """Fetch files that a job has left. Of a job that failed, those that are there; what is not is only logged.

    :param system: where the job ran
    :param result: how it ended
    :param outputs: what to fetch
    :param account: the account to charge for transfer jobs, if the site requires one
    :returns: what was fetched
    :raises InvalidFileName: two of them would become one file
    :raises FirecRESTError: as :func:`firecrest_core.paths.expand`, :func:`firecrest_core.transfer.find_files` and
        :func:`firecrest_core.transfer.download`; only if the job succeeded
    """
    begun = await begin_outputs(system, result, outputs, account=account)
    return await finish_outputs(system, result, begun)


async def begin_outputs(
    system: System, result: JobResult, outputs: Outputs, *, account: str | None = None
) -> list[tuple[LocalPath, PendingTransfer | Transferred]]:
    """Fetch what needs no transfer job, and begin the others, for callers that must not wait for these.

    Parameters and errors are those of :func:`fetch_outputs`. If some are not there, the others are fetched first.

    :returns: for each file its path on our side, and what :func:`firecrest_core.transfer.begin_download` returns
    """
    found: list[tuple[str, LocalPath]] = []
    missing: list[RemotePathNotFound] = []
    takers: dict[str, str] = {}
    for source, target in outputs:
        target = expand_home(target)
        if isinstance(target, str):
            target = target.replace("{job_id}", result.job_id)
        try:
            path = paths.join(paths.escaped(result.working_dir), source.replace("{job_id}", result.job_id))
            for file in await transfer.find_files(system, [await paths.expand(system, path)]):
                place = await _place(system, file, target)
                if _take(takers, str(place), file.path):
                    found.append((file.path, place))
        except RemotePathNotFound as error:
            missing.append(error)
        except Exception as error:  # object stores have errors of their own
            _raise_or_log(result, source, error)
    begun: list[tuple[LocalPath, PendingTransfer | Transferred]] = []
    for path, place in found:
        try:
            one = await transfer.begin_download(system, path, place, exact=True, account=account)
        except RemotePathNotFound as error:
            missing.append(error)
        except Exception as error:
            _raise_or_log(result, path, error)
        else:
            begun.append((place, one))
            log.info("Fetching %s on %s to %s.", path, system, place)
    if missing and result.succeeded:
        await finish_outputs(system, result, begun)
        raise RemotePathNotFound(
            f"outputs: job {result.job_id} ended {result.state}, but has not left all of them. "
            f"{' '.join(map(str, missing[:_MOST_NAMED]))}"
        )
    for one_missing in missing:
        log.warning("outputs: not fetched, as the job failed: %s", one_missing)
    return begun


async def finish_outputs(
    system: System, result: JobResult, begun: Iterable[tuple[LocalPath, PendingTransfer | Transferred]]
) -> list[Transferred]:
    """Wait for the transfer jobs that still run, and fetch what they have left in the staging store.

    :param system: where the job ran
    :param result: how it ended
    :param begun: what :func:`begin_outputs` returned
    :returns: what was fetched
    :raises FirecRESTError: as :func:`firecrest_core.transfer.finish_download`; only if the job succeeded
    """
    fetched = []
    for place, one in begun:
        try:
            done = one if isinstance(one, Transferred) else await transfer.finish_download(system, one, place)
        except Exception as error:
            _raise_or_log(result, place, error)
        else:
            fetched.append(done)
            log.info("Fetched %s on %s to %s.", done.remote, system, done.local)
    return fetched


async def _place(system: System, file: RemoteFile, target: LocalPath) -> LocalPath:
    """Return where a file or a directory goes."""
    if file.matched or str(target).endswith("/"):
        return as_local_path(target) / file.name
    if await _is_directory(target) and not await system.has_directory(file.path):
        return as_local_path(target) / file.name
    return target


async def _is_directory(path: LocalPath) -> bool:
    with local_errors(path, "read"):
        return await asyncio.to_thread(as_local_path(path).is_dir)


def _named(target: str, name: str) -> str:
    return posixpath.join(target, name) if target.endswith("/") or target == "." else target


def _take(takers: dict[str, str], place: str, source: str) -> bool:
    """Note what becomes the file at a place, and return whether that is new.

    :raises InvalidFileName: something else becomes it
    """
    key = posixpath.normpath(place)
    is_new = key not in takers
    if takers.setdefault(key, source) != source:
        raise InvalidFileName(f"{takers[key]} and {source} would both become {place}. Give each a target of its own.")
    return is_new


def _raise_or_log(result: JobResult, what: Any, error: Exception) -> None:
    if result.succeeded:
        raise error
    log.warning("%s was not fetched, as the job failed: %s", what, error)
