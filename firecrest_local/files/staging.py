"""The staging store: objects behind presigned URLs, and multipart uploads, as an S3 store has them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from firecrest_local.files.staging_expiry import StagingExpiry
from firecrest_local.private_files import make_private_directory, open_private, write_private

_DATE = "%Y%m%dT%H%M%SZ"
_BLOCK = 1024 * 1024


class StagingError(Exception):
    """A request to the store that is refused.

    :param status: HTTP status.
    :param code: S3's code of the error.
    :param message: S3's description of the error.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def no_such_upload() -> StagingError:
    """Make the error for an upload that doesn't exist, or not any more."""
    return StagingError(404, "NoSuchUpload", "The specified multipart upload does not exist.")


class StagingStore:
    """Objects on disk, reached by presigned URLs.

    :param directory: holds objects and unfinished uploads.
    :param url: where the store answers.
    :param key: signs the URLs.
    :param lifetime: seconds that a URL is valid for.
    :param smallest_part: bytes that every part but the last must have.
    :ivar expiry: removes what nobody needs any more.
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
            make_private_directory(path)
        self.expiry = StagingExpiry(self._objects, self._uploads, lifetime)

    # --- for the server

    def new_object(self, bucket: str, name: str) -> str:
        """Reserve the key of a new object, and make a directory for it."""
        key = f"{bucket}/{secrets.token_hex(16)}/{name.replace('/', '')}"
        make_private_directory(self.object_path(key).parent)
        return key

    def object_path(self, key: str) -> Path:
        """Return where an object is, or will be once it is complete."""
        # A client's name may be too long for the names that are made from it.
        return self._objects / key.rpartition("/")[0] / "object"

    def begin_upload(self) -> str:
        """Begin a multipart upload and give its id."""
        upload_id = secrets.token_urlsafe(32)
        make_private_directory(self._uploads / upload_id)
        return upload_id

    def presign(self, method: str, key: str, query: Mapping[str, str] | None = None) -> str:
        """Make a URL that allows one method on one object for a while."""
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

        :raises StagingError: 403.
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
        """Return the directory of an unfinished upload.

        :raises StagingError: 404, there is no such upload.
        """
        path = self._uploads / upload_id
        if not upload_id or not path.is_dir():
            raise no_such_upload()
        return path

    def complete(self, upload_id: str, key: str, body: bytes) -> str:
        """Join the parts of an upload and give the object's ETag.

        :param upload_id: the upload.
        :param key: the object.
        :param body: S3's `CompleteMultipartUpload` document.
        :raises StagingError: the document or the parts are wrong.
        """
        try:
            return self._complete(self.upload(upload_id), key, body)
        except FileNotFoundError:
            # Another request has completed it meanwhile, or it is too old.
            raise no_such_upload() from None

    def _complete(self, directory: Path, key: str, body: bytes) -> str:
        parts = self._parts(directory, body)
        target = self.object_path(key)
        draft = directory / "whole"
        digest = hashlib.md5(usedforsecurity=False)
        with open_private(draft) as whole:
            for path in parts:
                digest.update(bytes.fromhex(etag_file(path).read_text()))
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole, _BLOCK)
        etag = f"{digest.hexdigest()}-{len(parts)}"
        write_private(etag_file(target), etag)
        # A transfer job waits for the object, so it must appear whole.
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
            if not path.is_file() or etag_file(path).read_text() != etag:
                raise StagingError(400, "InvalidPart", f"Part {number} could not be found.")
            if position < len(wanted) - 1 and path.stat().st_size < self._smallest_part:
                raise StagingError(400, "EntityTooSmall", f"Part {number} is smaller than allowed.")
            paths.append(path)
        return paths

    def _sign(self, method: str, key: str, query: Mapping[str, str]) -> str:
        text = "\n".join([method, key, *(f"{name}={query[name]}" for name in sorted(query))])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def etag_file(path: Path) -> Path:
    """Return the file that holds the ETag of a part or an object."""
    return path.with_name(f"{path.name}.etag")


def read_blocks(path: Path, first: int, last: int) -> Iterator[bytes]:
    """Read the bytes of a file from one position to another, both included."""
    with path.open("rb") as file:
        file.seek(first)
        while first <= last and (block := file.read(min(_BLOCK, last - first + 1))):
            first += len(block)
            yield block
