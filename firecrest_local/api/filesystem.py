"""`/filesystem/{system}/ops`: small operations on files, done at once."""

import re
from typing import Annotated, Any

from anyio import sleep
from fastapi import APIRouter, Depends, Query, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator

from firecrest_local.api.checks import RequestChecks
from firecrest_local.api.request_body import PathBody
from firecrest_local.errors import ApiError, CommandTimeout
from firecrest_local.files.archives import Compression
from firecrest_local.site import Site

Bytes = Annotated[int | None, Query(alias="bytes", ge=0)]
Lines = Annotated[int | None, Query(ge=0)]


def regular_expression(text: str | None) -> str | None:
    """Check that a text is a regular expression."""
    try:
        re.compile(text or "")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


class Mode(PathBody):
    """The body of chmod."""

    mode: str


class Ownership(PathBody):
    """The body of chown."""

    owner: str = ""
    group: str = ""


class MakeDirectory(PathBody):
    """The body of mkdir."""

    parent: bool = False


class Link(PathBody):
    """The body of symlink."""

    link_path: str


class Compress(PathBody):
    """The body of compress."""

    target_path: str
    match_pattern: Annotated[str | None, AfterValidator(regular_expression)] = None
    dereference: bool = False
    compression: Compression = "gzip"


class Extract(PathBody):
    """The body of extract."""

    target_path: str
    compression: Compression = "gzip"


def file_part(text: str, *, size: int | None, start: int, end: int) -> dict[str, Any]:
    """Return a part of a file as head and tail answer it."""
    unit = "bytes" if size else "lines"
    return {"output": {"content": text, "contentType": unit, "startPosition": start, "endPosition": end}}


def refuse_both(size: int | None, lines: int | None) -> None:
    """Refuse a request for both bytes and lines."""
    if size and lines:
        raise ApiError(400, "Only one of `bytes` or `lines` can be specified.")


def router(site: Site) -> APIRouter:
    """Make the endpoints."""
    checks = RequestChecks(site)
    required = [Depends(checks.authenticated), Depends(checks.known_system)]
    routes = APIRouter(prefix="/filesystem/{system_name}/ops", dependencies=required)
    operations = site.operations
    # Endpoints get the client's path in its checked, normal form.
    GivenPath = Annotated[str, Depends(checks.given_path)]  # noqa: N806 (a type)
    QueryPath = Annotated[str, Depends(checks.query_path)]  # noqa: N806
    GivenTree = Annotated[str, Depends(checks.given_tree)]  # noqa: N806

    @routes.get("/ls")
    def ls(
        path: QueryPath,
        hidden: Annotated[bool, Query(alias="showHidden")] = False,
        numeric: Annotated[bool, Query(alias="numericUid")] = False,
        recursive: bool = False,
        dereference: bool = False,
    ) -> dict[str, Any]:
        rows = operations.ls(path, hidden=hidden, numeric=numeric, recursive=recursive, dereference=dereference)
        return {"output": rows}

    @routes.get("/stat")
    def stat(path: QueryPath, dereference: bool = False) -> dict[str, Any]:
        return {"output": operations.stat(path, dereference=dereference)}

    @routes.get("/checksum")
    def checksum(path: QueryPath) -> dict[str, Any]:
        return {"output": operations.checksum(path)}

    @routes.get("/file")
    def file(path: QueryPath) -> dict[str, Any]:
        return {"output": operations.file(path)}

    @routes.get("/head")
    def head(
        path: QueryPath,
        size: Bytes = None,
        lines: Lines = None,
        skip: Annotated[bool, Query(alias="skipTrailing")] = False,
    ) -> dict[str, Any]:
        refuse_both(size, lines)
        text = operations.head(path, size=size or None, lines=lines or None, skip=skip)
        count = lines if lines is not None else size
        end = 10 if count is None else -count if skip else count
        return file_part(text, size=size, start=0, end=end)

    @routes.get("/tail")
    def tail(
        path: QueryPath,
        size: Bytes = None,
        lines: Lines = None,
        skip: Annotated[bool, Query(alias="skipHeading")] = False,
    ) -> dict[str, Any]:
        refuse_both(size, lines)
        text = operations.tail(path, size=size or None, lines=lines or None, skip=skip)
        count = lines if lines is not None else size
        start = 10 if count is None else count if skip else -count
        return file_part(text, size=size, start=start, end=-1)

    @routes.get("/view")
    def view(path: QueryPath, size: int | None = None, offset: int = 0) -> dict[str, Any]:
        largest = site.settings.max_ops_file_size
        size = largest if size is None else size
        if offset < 0:
            raise ApiError(400, "`offset` value must be an integer value equal or greater than 0")
        if size <= 0:
            raise ApiError(400, "`size` value must be an integer value greater than 0")
        if size > largest:
            raise ApiError(400, f"`size` value must be less than {largest} bytes")
        return {"output": operations.view(path, size=size, offset=offset)}

    @routes.get("/download")
    def download(path: QueryPath) -> Response:
        return Response(operations.download(path), media_type="application/octet-stream")

    @routes.post("/upload", status_code=204)
    async def upload(path: QueryPath, file: UploadFile) -> None:
        if not file.filename:
            raise ApiError(400, "The file to upload has no name.")
        if (file.size or 0) > site.settings.max_ops_file_size:
            raise ApiError(413, "File to upload is too large.")
        data = await file.read()
        if not data:
            # The real server's command waits for bytes that never come.
            await sleep(site.settings.command_timeout)
            raise CommandTimeout
        await run_in_threadpool(operations.upload, path, file.filename, data)

    @routes.post("/mkdir", status_code=201)
    def mkdir(path: GivenPath, body: MakeDirectory) -> dict[str, Any]:
        return {"output": operations.mkdir(path, parent=body.parent)}

    @routes.post("/symlink", status_code=201)
    def symlink(path: GivenPath, body: Link) -> dict[str, Any]:
        return {"output": operations.symlink(path, site.confinement.path(body.link_path))}

    @routes.put("/chmod")
    def chmod(path: GivenPath, body: Mode) -> dict[str, Any]:
        return {"output": operations.chmod(path, body.mode)}

    @routes.put("/chown")
    def chown(path: GivenPath, body: Ownership) -> dict[str, Any]:
        return {"output": operations.chown(path, body.owner, body.group)}

    @routes.delete("/rm", status_code=204)
    def rm(path: QueryPath) -> None:
        operations.rm(path)

    @routes.post("/compress", status_code=204)
    def compress(path: GivenTree, body: Compress) -> None:
        operations.compress(
            path,
            site.confinement.path(body.target_path),
            compression=body.compression,
            pattern=body.match_pattern,
            dereference=body.dereference,
        )

    @routes.post("/extract", status_code=204)
    def extract(path: GivenPath, body: Extract) -> None:
        operations.extract(path, site.confinement.path(body.target_path))

    return routes
