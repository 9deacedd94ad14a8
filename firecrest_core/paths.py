"""Paths on a system as users write them: with ``~`` and variables, or relative to the connection's base directory.

FirecREST takes absolute paths alone, and no shell expands anything in them. What a path stands for depends on the
system and the user:

- ``$USER`` is the user that FirecREST runs commands as.
- ``~`` and ``$HOME`` are the user's directory on the file system that the site calls ``users``, ``$SCRATCH`` the one on
  a file system that it calls ``scratch``. FirecREST does not tell these directories. They are looked for, and nothing
  else is taken in their place.
- Any other name is one of ``paths`` of the :class:`~firecrest_core.connection.Connection`. They may replace these, too.
- ``$$`` is a dollar sign.

A process asks once for each system and user, and only if a path needs it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import posixpath
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, OUTAGES, Backoff, retry_transient
from firecrest_core.api.client import System
from firecrest_core.api.remote_paths import check_remote_path
from firecrest_core.connection import Connection
from firecrest_core.errors import InvalidFileName, InvalidJobSpec, RemotePathRefused, TransientError
from firecrest_core.spec.jobspec import JobSpec

log = logging.getLogger(__name__)

T = TypeVar("T")

# The name of a directory of the user's, and the type that FirecREST gives to the file systems that hold it.
_DATA_TYPES = {"HOME": "users", "SCRATCH": "scratch"}
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>[^}/]*)\}?|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))")


def escaped(path: str) -> str:
    """Return an absolute path in a form that :func:`expand` leaves as it is.

    :param path: as the system has it
    """
    return path.replace("$", "$$")


def is_relative(path: str) -> bool:
    """Tell whether a path is relative to a directory, and not from the root, the home directory or a variable's.

    :param path: as the user wrote it
    """
    if path.startswith(("/", "~")):
        return False
    variable = _VARIABLE.match(path)
    return variable is None or variable["dollar"] is not None or _name(variable) == "USER"


def join(directory: str, path: str) -> str:
    """Return a path that may be relative to a directory; nothing is expanded.

    :param directory: as the user wrote it
    :param path: as the user wrote it
    """
    return posixpath.join(directory, path) if is_relative(path) else path


async def expand(system: System, path: str) -> str:
    """Return the absolute path on a system that a user means. One that is absolute already costs no request.

    :param system: the system, as the user
    :param path: absolute, or from ``~`` or a variable, or relative to the connection's ``base_dir``
    :raises InvalidFileName: a variable is not known, or a path is relative and there is no base directory
    """
    if not isinstance(path, str):  # an XCom that holds nothing, say
        raise InvalidFileName(f"{path!r} is no path on {system}. Give a text.")
    if not path.strip():
        return path  # every request refuses it; it must not become the base directory
    expanded = await _Expansion(system).absolute(path)
    if expanded != path:
        log.info("%s is %s on %s.", path, expanded, system)
    return expanded


async def expand_spec(system: System, spec: JobSpec, *, is_retry: bool = False) -> JobSpec:
    """Return a job with the paths that its user means. Relative output paths stay relative to its working directory.

    :param system: the system, as the user
    :param spec: the job
    :param is_retry: an earlier try may have submitted the job, so an outage is waited out
    :raises InvalidJobSpec: naming the field with a variable that is not known, or without a base directory
    """
    expansion, changes = _Expansion(system), dict[str, Any]()

    async def expanded(name: str, path: str, expand: Callable[[str], Awaitable[str]]) -> str:
        try:
            result = await _retried(system, partial(expand, path), is_retry)
        except InvalidFileName as error:
            raise InvalidJobSpec(name, str(error)) from None
        if result != path:
            log.info("%s: %s is %s on %s.", name, path, result, system)
        return result

    for name, how in (
        ("working_dir", expansion.absolute),
        ("script_path", expansion.absolute),
        ("stdout", expansion.substituted),
        ("stderr", expansion.substituted),
        ("container", expansion.substituted),
    ):
        if (path := getattr(spec, name)) is not None:
            changes[name] = await expanded(name, path, how)
    mounts = []
    for mount in spec.container_mounts:
        parts = [await expanded("container_mounts", part, expansion.substituted) for part in mount.split(":")]
        mounts.append(":".join(parts))
    return replace(spec, container_mounts=mounts, **changes)


def is_made(spec: JobSpec, make_working_dir: bool | None) -> bool:
    """Tell whether a missing working directory is to be made.

    One below the base directory is, unless the user says otherwise. Any other that does not exist may be misspelt.

    :param spec: the job as its user wrote it, before :func:`expand_spec`
    :param make_working_dir: what the user says
    """
    return is_relative(spec.working_dir) if make_working_dir is None else make_working_dir


async def make_directory(system: System, path: str, *, is_retry: bool = False) -> None:
    """Make a directory and those above it, unless it exists.

    :param system: the system
    :param path: absolute path
    :param is_retry: as in :func:`expand_spec`
    """
    if not await _retried(system, partial(system.has_directory, path), is_retry):
        await _retried(system, partial(system.make_directory, path), is_retry)
        log.info("Made the directory %s on %s.", path, system)


@dataclass
class _User:
    """What this process knows of a user on a system.

    :param name: the user's name there
    :param directories: ``HOME`` and ``SCRATCH``
    """

    name: str = ""
    directories: dict[str, str] = field(default_factory=dict)


_users: dict[tuple[Connection, str], _User] = {}
# Whoever comes while another asks waits for that answer. A system's object belongs to one event loop.
_asking: WeakKeyDictionary[System, asyncio.Lock] = WeakKeyDictionary()


class _Expansion:
    """Expands one path, or those of one job.

    :param system: the system, as the user
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._connection = system.connection
        self._under_way: list[str] = []  # names that stand for a path with names

    async def absolute(self, path: str) -> str:
        """Return the absolute path."""
        expanded = await self.substituted(path)
        if expanded.startswith("/"):
            return expanded
        base = self._connection.base_dir
        if base is None:
            raise InvalidFileName(
                f"{path} is relative, and the {self._connection.kept_in} has no base directory (base_dir). Begin with "
                f"/, ~/ or $SCRATCH/, or give the {self._connection.kept_in} one."
            )
        return posixpath.join(await self.substituted(base), expanded)

    async def substituted(self, path: str) -> str:
        """Return the path with the values in place of ``~`` and variables. It may be relative."""
        if path.startswith("~"):
            user, slash, rest = path[1:].partition("/")
            if user:
                raise InvalidFileName(f"{path}: only your own home directory (~/) is known. Write the whole path.")
            path = f"$HOME{slash}{rest}"
        parts, end = [], 0
        for variable in _VARIABLE.finditer(path):
            value = "$" if variable["dollar"] else await self._value(_name(variable))
            parts += [path[end : variable.start()], value]
            end = variable.end()
        return "".join([*parts, path[end:]])

    async def _value(self, name: str) -> str:
        given = self._connection.paths.get(name)
        if given is not None:
            if name in self._under_way:
                raise InvalidFileName(
                    f"${name} stands for itself in `paths` of the {self._connection.kept_in}. Give it a whole path."
                )
            self._under_way.append(name)
            value = await self.absolute(given)
            self._under_way.remove(name)
            return value.rstrip("/")
        if name != "USER" and name not in _DATA_TYPES:
            own = [f"${known}" for known in sorted({*_DATA_TYPES, "USER", *self._connection.paths})]
            raise InvalidFileName(
                f"${name} is not known on {self._system}. There are {', '.join(own)}; `paths` of the "
                f"{self._connection.kept_in} can name more."
            )
        return await self._of_user(name)

    async def _of_user(self, name: str) -> str:
        user = _users.setdefault((self._connection, self._system.name.casefold()), _User())
        async with _asking.setdefault(self._system, asyncio.Lock()):
            if not user.name:
                answer = (await self._system.get_userinfo()).name
                user.name = check_remote_path(answer)
            if name == "USER":
                return user.name
            if name not in user.directories:
                user.directories[name] = await self._directory(name, user.name)
            return user.directories[name]

    async def _directory(self, name: str, user: str) -> str:
        info = await self._system.info()
        own = [one for one in info.file_systems if one.data_type == _DATA_TYPES[name]]
        found = [one for one in own if await self._is_directory(posixpath.join(one.path, user))]
        if len(found) > 1:
            found = [one for one in found if one.default_work_dir] or found
        if len(found) == 1:
            return posixpath.join(found[0].path, user)
        if found:
            problem = f"{user} has directories on {' and '.join(one.path for one in found)}"
        elif own:
            problem = f"there is no {' or '.join(posixpath.join(one.path, user) for one in own)}"
        else:
            problem = f"it has no file system of the type {_DATA_TYPES[name]}"
        raise InvalidFileName(
            f"${name} is not known on {self._system}: {problem}. Write the whole path, or name it in `paths` of the "
            f'{self._connection.kept_in}: {{"{name}": "/…"}}. {info.describe_file_systems()}'
        )

    async def _is_directory(self, path: str) -> bool:
        try:
            return await self._system.has_directory(path)
        except RemotePathRefused:
            return False


async def _retried(system: System, request: Callable[[], Awaitable[T]], is_retry: bool) -> T:
    if not is_retry:
        return await retry_transient(request)
    system.client.trust_url()  # an earlier try has reached FirecREST there
    backoff = Backoff()
    while True:
        try:
            return await request()
        except OUTAGES as error:
            # The other errors mean a wrong secret or URL, if they last.
            limit = math.inf if isinstance(error, TransientError) else FIRST_CONTACT_LIMIT
            await backoff.wait(error, f"The paths of {system}", limit)


def _name(variable: re.Match[str]) -> str:
    return variable["bare"] or variable["braced"] or ""
