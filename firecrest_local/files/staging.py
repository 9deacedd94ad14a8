"""The staging store: presigned URLs, multipart uploads and ranges, as an S3 store offers them."""

import hashlib
import hmac
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

_DATE = "%Y%m%dT%H%M%SZ"
_BLOCK = 1024 * 1024


class StagingError(Exception):
    """An answer other than success, in S3's form.

    Parameters:
        status: HTTP status.
        code: S3's word for the problem.
        message: for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def response(self) -> Response:
        """The answer."""
        body = f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
        return Response(text, self.status, media_type="application/xml")


class StagingStore:
    """Objects on disk, reached by presigned URLs.

    Parameters:
        directory: holds objects and unfinished uploads.
        url: where the store answers.
        key: signs the URLs.
        lifetime: seconds that a URL is valid for.
        smallest_part: bytes that every part but the last must have.
    """

    SMALLEST_PART = 5 * 1024 * 1024

    def __init__(self, directory: Path, url: str, key: str, lifetime: int, smallest_part: int) -> None:
        self._objects = directory / "objects"
        self._uploads = directory / "uploads"
        self._url = url
        self._key = key.encode()
        self._lifetime = lifetime
        self._smallest_part = smallest_part
        for path in (self._objects, self._uploads):
            path.mkdir(parents=True, exist_ok=True)

    # --- for the server

    def new_object(self, bucket: str, name: str) -> str:
        """Make up the key of an object that is to come, and a directory for it."""
        key = f"{bucket}/{secrets.token_hex(16)}/{name}"
        self.object_path(key).parent.mkdir(parents=True)
        return key

    def object_path(self, key: str) -> Path:
        """Where an object is, or will be once it is complete."""
        return self._objects / key

    def begin_upload(self) -> str:
        """Begin a multipart upload and give its id."""
        upload_id = secrets.token_urlsafe(32)
        (self._uploads / upload_id).mkdir()
        return upload_id

    def presign(self, method: str, key: str, query: Mapping[str, str] | None = None) -> str:
        """A URL that allows one method on one object for a while."""
        now = datetime.now(UTC)
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"staging/{now:%Y%m%d}/us-east-1/s3/aws4_request",
            "X-Amz-Date": now.strftime(_DATE),
            "X-Amz-Expires": str(self._lifetime),
            "X-Amz-SignedHeaders": "host",
        }
        parameters["X-Amz-Signature"] = self._sign(method, key, parameters)
        return f"{self._url}/{quote(key)}?{urlencode(parameters)}"

    # --- for requests

    def check(self, method: str, key: str, query: Mapping[str, str]) -> None:
        """Refuse a request whose URL isn't signed for it, or isn't valid any more.

        Raises:
            StagingError: 403.
        """
        unsigned = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
        signature = query.get("X-Amz-Signature")
        if signature is None:
            raise StagingError(403, "AccessDenied", "Access Denied.")
        if not hmac.compare_digest(signature.encode(), self._sign(method, key, unsigned).encode()):
            raise StagingError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        signed_at = datetime.strptime(unsigned["X-Amz-Date"], _DATE).replace(tzinfo=UTC)
        if datetime.now(UTC) > signed_at + timedelta(seconds=int(unsigned["X-Amz-Expires"])):
            raise StagingError(403, "AccessDenied", "Request has expired")

    def upload(self, upload_id: str) -> Path:
        """The directory of an unfinished upload.

        Raises:
            StagingError: 404, there is none such.
        """
        path = self._uploads / upload_id
        if not upload_id or not path.is_dir():
            raise StagingError(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return path

    def complete(self, upload_id: str, key: str, body: bytes) -> str:
        """Join the parts of an upload and give the object's ETag.

        Parameters:
            upload_id: the upload.
            key: the object.
            body: S3's `CompleteMultipartUpload` document.

        Raises:
            StagingError: the document or the parts are wrong.
        """
        directory = self.upload(upload_id)
        parts = self._parts(directory, body)
        target = self.object_path(key)
        draft = directory / "whole"
        digest = hashlib.md5(usedforsecurity=False)
        with draft.open("wb") as whole:
            for path in parts:
                digest.update(bytes.fromhex(_etag_file(path).read_text()))
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole, _BLOCK)
        etag = f"{digest.hexdigest()}-{len(parts)}"
        _etag_file(target).write_text(etag)
        # The object appears whole, since a transfer job waits for it.
        draft.replace(target)
        shutil.rmtree(directory)
        return etag

    def _parts(self, directory: Path, body: bytes) -> list[Path]:
        try:
            document = ElementTree.fromstring(body)
            rows = [
                {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in part}
                for part in document
                if part.tag.rpartition("}")[2] == "Part"
            ]
            wanted = [(int(row["PartNumber"]), row["ETag"].strip('"')) for row in rows]
        except (ElementTree.ParseError, KeyError, ValueError):
            raise StagingError(400, "MalformedXML", "The XML you provided was not well-formed.") from None
        if not wanted:
            raise StagingError(400, "MalformedXML", "You must specify at least one part")
        if [number for number, _ in wanted] != sorted({number for number, _ in wanted}):
            raise StagingError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        paths = []
        for position, (number, etag) in enumerate(wanted):
            path = directory / str(number)
            if not path.is_file() or _etag_file(path).read_text() != etag:
                raise StagingError(400, "InvalidPart", f"Part {number} could not be found.")
            if position < len(wanted) - 1 and path.stat().st_size < self._smallest_part:
                raise StagingError(400, "EntityTooSmall", f"Part {number} is smaller than allowed.")
            paths.append(path)
        return paths

    def _sign(self, method: str, key: str, query: Mapping[str, str]) -> str:
        text = "\n".join([method, key, *(f"{name}={query[name]}" for name in sorted(query))])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _etag_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.etag")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and the last byte that a Range header asks for.

    Returns:
        None when all is asked for.

    Raises:
        StagingError: 416, nothing of it is there.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
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


def read_blocks(path: Path, first: int, last: int) -> Iterator[bytes]:
    """The bytes of a file from one position to another, both included."""
    with path.open("rb") as file:
        file.seek(first)
        while first <= last and (block := file.read(min(_BLOCK, last - first + 1))):
            first += len(block)
            yield block


def router(store: StagingStore) -> APIRouter:
    """The store's endpoints."""
    routes = APIRouter(prefix="/staging")

    @routes.put("/{key:path}")
    async def put_part(key: str, request: Request) -> Response:
        try:
            query = request.query_params
            store.check("PUT", key, query)
            path = store.upload(query.get("uploadId", "")) / str(int(query.get("partNumber", "0")))
        except StagingError as error:
            return error.response()
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with await run_in_threadpool(draft.open, "wb") as file:
                async for block in request.stream():
                    digest.update(block)
                    await run_in_threadpool(file.write, block)
            _etag_file(path).write_text(digest.hexdigest())
            draft.replace(path)
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
            return error.response()
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUploadResult>'
            f"<Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
        )
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
            return error.response()
        first, last = bounds or (0, info.st_size - 1)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
            "ETag": f'"{info.st_ino:x}-{info.st_mtime_ns:x}"',
            "Last-Modified": formatdate(info.st_mtime, usegmt=True),
        }
        if bounds:
            headers["Content-Range"] = f"bytes {first}-{last}/{info.st_size}"
        return StreamingResponse(
            iter(()) if request.method == "HEAD" else read_blocks(path, first, last),
            206 if bounds else 200,
            headers,
            media_type="binary/octet-stream",
        )

    return routes
