"""A token of the user's own, which a command prints, or which a file or a variable of the environment holds."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from firecrest_core.api.backoff import retry_briefly
from firecrest_core.api.token import MIN_REMAINING, Token, seconds_left
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.connection import is_header_value
from firecrest_core.errors import AuthenticationFailed, TransientError
from firecrest_core.sign_in import SignIn, SignInKind

# Bytes. Tokens have a few thousand.
_LARGEST = 64 * 1024
# Characters of what a command says of its failure.
_LONGEST_WORDS = 300


class _NoToken(TransientError):
    """There is none at the moment: it may be written anew just now."""


class OwnToken:
    """Reads a token where the user keeps it.

    :param sign_in: where it is
    :param timeout: seconds that a command may take
    :param attempts: how often it is read at most until it can be used
    """

    def __init__(self, sign_in: SignIn, timeout: float, attempts: int) -> None:
        self._sign_in = sign_in
        self._timeout = timeout
        self._attempts = attempts

    async def fetch(self) -> Token:
        """Read the token.

        :raises AuthenticationFailed: there is none, it cannot be one, or it has expired
        """
        try:
            return await retry_briefly(self._read, attempts=self._attempts)
        except _NoToken as error:
            raise AuthenticationFailed(str(error)) from None

    async def _read(self) -> Token:
        value = await self._content()
        origin = self._sign_in.origin
        if not value:
            raise _NoToken(f"auth: {origin} {self._verb} no token: it is empty.")
        if not is_header_value(value):
            raise _NoToken(f"auth: {origin} {self._verb} no token: a token is one line without blanks.")
        left = seconds_left(value)
        if left is None:
            return Token(value)
        if left <= 0:
            raise _NoToken(f"auth: {origin} {self._verb} a token that has expired. Renew it.")
        if left <= MIN_REMAINING:
            raise _NoToken(
                f"auth: {origin} {self._verb} a token that expires in {left:.0f} s, and FirecREST refuses those that "
                f"expire within {MIN_REMAINING:g} s. Renew it, or use tokens that live for some minutes.",
                retry_after=left,  # programs that keep a token give another one then
            )
        return Token(value, time.monotonic() + left)

    @property
    def _verb(self) -> str:
        return "prints" if self._sign_in.kind is SignInKind.COMMAND else "holds"

    async def _content(self) -> SecretStr:
        match self._sign_in.kind:
            case SignInKind.COMMAND:
                return await _output(self._sign_in, self._timeout)
            case SignInKind.FILE:
                return await asyncio.to_thread(_file, self._sign_in)
            case _:
                return SecretStr(os.environ.get(self._sign_in.source, "").strip())


def _file(sign_in: SignIn) -> SecretStr:
    try:
        with Path(sign_in.source).expanduser().open("rb") as file:
            return _text(file.read(_LARGEST + 1))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory for ~
        reason = getattr(error, "strerror", None) or error
        raise _NoToken(f"auth: {sign_in.origin} cannot be read on this machine: {reason}.") from None


def _text(content: bytes) -> SecretStr:
    # What is no text, or too long for a token, is refused by its form.
    return SecretStr(content.decode("ascii", errors="replace").strip() if len(content) <= _LARGEST else "too long")


@without_frames
async def _output(sign_in: SignIn, timeout: float) -> SecretStr:
    """Run a command and return its standard output, which appears in no message."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        # In a session of its own, it can be ended with everything that it has started.
        process = await asyncio.create_subprocess_exec(
            *sign_in.command, stdin=nothing, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AuthenticationFailed(f"auth: {sign_in.origin} cannot be started on this machine: {reason}.") from None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout):
            output, words = await asyncio.gather(_read_some(process.stdout), _read_some(process.stderr))
            status = await process.wait()
    except BaseException as error:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, TimeoutError):
            raise _NoToken(f"auth: {sign_in.origin} has not ended within {timeout:g} s.") from None
        raise
    if status != 0:
        said = " ".join(words.decode(errors="replace").split())[-_LONGEST_WORDS:]
        raise _NoToken(f"auth: {sign_in.origin} failed (exit status {status}){f': {said}' if said else ''}.")
    return _text(output)


async def _read_some(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end, and keep only as much as tells that it is too long."""
    kept = b""
    while piece := await stream.read(_LARGEST):
        kept = (kept + piece)[: _LARGEST + 1]
    return kept
