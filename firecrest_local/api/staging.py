"""`/staging`: the staging store, as an S3 store answers."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from email.utils import formatdate
from xml.sax.saxutils import escape

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from firecrest_local.files.staging import StagingError, StagingStore, etag_file, no_such_upload, read_blocks
from firecrest_local.private_files import open_private, write_private

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


def error_response(error: StagingError) -> Response:
    """Write an error in S3's form."""
    body = f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>"
    return Response(f"{_XML}{body}", error.status, media_type="application/xml")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte that a Range header asks for.

    :returns: None when all is asked for.
    :raises StagingError: 416, the range holds no byte of the object.
    """
    # Longer numbers than any size are no range.
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if first:
        bounds = int(first), min(int(last), size - 1) if last else size - 1
    else:
        bounds = max(size - int(last), 0), size - 1
    if bounds[0] > bounds[1]:
        raise StagingError(416, "InvalidRange", "The requested range is not satisfiable")
    return bounds


def router(store: StagingStore) -> APIRouter:
    """Make the endpoints."""
    # The store is no part of FirecREST's specification.
    routes = APIRouter(prefix="/staging", include_in_schema=False)

    @routes.put("/{key:path}")
    async def put_part(key: str, request: Request) -> Response:
        try:
            query = request.query_params
            store.check("PUT", key, query)
            path = store.upload(query.get("uploadId", "")) / str(int(query.get("partNumber", "0")))
        except StagingError as error:
            return error_response(error)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with await run_in_threadpool(open_private, draft) as file:
                async for block in request.stream():
                    digest.update(block)
                    await run_in_threadpool(file.write, block)
            write_private(etag_file(path), digest.hexdigest())
            draft.replace(path)
        except FileNotFoundError:
            # The upload was completed meanwhile.
            return error_response(no_such_upload())
        finally:
            # A body that was cut short leaves no part behind.
            draft.unlink(missing_ok=True)
        return Response(headers={"ETag": f'"{digest.hexdigest()}"'})

    @routes.post("/{key:path}")
    async def complete(key: str, request: Request) -> Response:
        body = await request.body()
        try:
            store.check("POST", key, request.query_params)
            etag = await run_in_threadpool(store.complete, request.query_params.get("uploadId", ""), key, body)
        except StagingError as error:
            return error_response(error)
        result = f"<Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag>"
        text = f"{_XML}<CompleteMultipartUploadResult>{result}</CompleteMultipartUploadResult>"
        return Response(text, media_type="application/xml")

    @routes.api_route("/{key:path}", methods=["GET", "HEAD"])
    def get(key: str, request: Request) -> Response:
        try:
            store.check(request.method, key, request.query_params)
            path = store.object_path(key)
            if not path.is_file():
                raise StagingError(404, "NoSuchKey", "The specified key does not exist.")
            info = path.stat()
            bounds = parse_range(request.headers.get("range"), info.st_size)
        except StagingError as error:
            return error_response(error)
        first, last = bounds or (0, info.st_size - 1)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
            "ETag": f'"{info.st_ino:x}-{info.st_mtime_ns:x}"',
            "Last-Modified": formatdate(info.st_mtime, usegmt=True),
        }
        if bounds:
            headers["Content-Range"] = f"bytes {first}-{last}/{info.st_size}"

        def content() -> Iterator[bytes]:
            yield from read_blocks(path, first, last)
            store.expiry.on_served(path, first, last, info.st_size)

        return StreamingResponse(
            iter(()) if request.method == "HEAD" else content(),
            206 if bounds else 200,
            headers,
            media_type="binary/octet-stream",
        )

    return routes
