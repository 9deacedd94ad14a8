"""Failures of the commands behind the file operations: file systems that hiccup or are full."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from firecrest_local.errors import RemoteError, error_body
from firecrest_local.faults.replacement import Replacement
from firecrest_local.faults.request import RequestHead

#: For each operation: the exit status of its command, and what the command prints before the reason. `path` is that of
#: the request, `target` the path of what is made.
_COMMANDS = {
    "ls": (2, "ls: cannot access '{path}'"),
    "stat": (1, "stat: cannot statx '{path}'"),
    "checksum": (1, "sha256sum: {path}"),
    "file": (1, "file: cannot open `{path}'"),
    "head": (1, "head: cannot open '{path}' for reading"),
    "tail": (1, "tail: cannot open '{path}' for reading"),
    "view": (1, "dd: failed to open '{path}'"),
    "download": (1, "base64: {path}"),
    "upload": (1, "base64: write error"),
    "mkdir": (1, "mkdir: cannot create directory '{path}'"),
    "symlink": (1, "ln: failed to create symbolic link '{target}'"),
    "chmod": (1, "chmod: changing permissions of '{path}'"),
    "chown": (1, "chown: changing ownership of '{path}'"),
    "rm": (1, "rm: cannot remove '{path}'"),
    "compress": (2, "tar: {target}: Cannot open"),
    "extract": (2, "tar: {target}: Cannot mkdir"),
}
#: Operations that write.
_WRITING = ("upload", "mkdir", "symlink", "compress", "extract")


def _operation(request: RequestHead) -> str:
    """Return the name of a file operation; empty for other requests."""
    match = re.fullmatch(r"/filesystem/[^/]+/ops/(\w+)", request.path, re.IGNORECASE)
    return match[1].lower() if match else ""


def _fields(request: RequestHead, body: bytes) -> dict[str, str]:
    """Return the parameters of a request, from its query and its JSON."""
    fields = {name: values[0] for name, values in parse_qs(request.query).items()}
    try:
        value: Any = json.loads(body)
    except ValueError:
        return fields
    if isinstance(value, dict):
        fields |= {name: text for name, text in value.items() if isinstance(text, str)}
    return fields


class FileError(Replacement):
    """The command of a file operation fails, with the server's answer for its words.

    :param words: the reason that the command gives.
    """

    reads_body: ClassVar[bool] = True

    fault: Literal["file_error"]
    words: str = "Stale file handle"

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only file operations match."""
        return _operation(request) in _COMMANDS and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        return _failed(request, body, self.words)


class DiskQuota(Replacement):
    """A file operation that writes fails with `Disk quota exceeded`."""

    reads_body: ClassVar[bool] = True

    fault: Literal["disk_quota"]
    done: Literal[False] = False

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only file operations that write match."""
        return _operation(request) in _WRITING and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        return _failed(request, body, "Disk quota exceeded")


def _failed(request: RequestHead, body: bytes, words: str) -> Response:
    fields = _fields(request, body)
    path = fields.get("path") or fields.get("sourcePath") or fields.get("source_path") or ""
    names = ("linkPath", "link_path", "targetPath", "target_path")
    target = next((fields[name] for name in names if name in fields), path)
    exit_status, text = _COMMANDS[_operation(request)]
    error = RemoteError(exit_status, f"{text.format(path=path, target=target)}: {words}")
    return JSONResponse(error_body(error.message, None), error.status)
