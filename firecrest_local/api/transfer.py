"""`/filesystem/{system}/transfer`: operations on files of any size, done by jobs."""

import os
import shlex
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from firecrest_local.api.checks import RequestChecks
from firecrest_local.api.request_body import PathBody, RequestBody
from firecrest_local.api.transfer_jobs import TransferJobs, template_path
from firecrest_local.errors import ApiError, RemoteError
from firecrest_local.files.archives import Compression
from firecrest_local.site import Site

_TAR_LETTERS: dict[Compression, str] = {"none": "", "bzip2": "j", "gzip": "z", "xz": "J"}


class Directives(RequestBody):
    """How the bytes are transferred."""

    transfer_method: str
    file_size: int | None = None
    wormhole_code: str | None = None


class Transfer(PathBody):
    """The body of an upload or a download."""

    transfer_directives: Directives
    account: str | None = None


class Target(PathBody):
    """The body of an operation with a target."""

    target_path: str
    account: str | None = None


class Copy(Target):
    """The body of cp."""

    dereference: bool = False


class Extract(Target):
    """The body of extract."""

    compression: Compression = "gzip"


class Compress(Copy):
    """The body of compress."""

    match_pattern: str | None = None
    compression: Compression = "gzip"


def router(site: Site) -> APIRouter:
    """Make the endpoints."""
    checks = RequestChecks(site)
    required = [Depends(check) for check in (checks.authenticated, checks.known_system, checks.healthy_scheduler)]
    routes = APIRouter(prefix="/filesystem/{system_name}/transfer", dependencies=required)
    jobs = TransferJobs(site)
    GivenPath = Annotated[str, Depends(checks.given_path)]  # noqa: N806 (a type)
    QueryPath = Annotated[str, Depends(checks.query_path)]  # noqa: N806
    GivenTree = Annotated[str, Depends(checks.given_tree)]  # noqa: N806

    def inside(path: str, *, follow: bool = True) -> str:
        normal = site.confinement.path(path)
        if not site.confinement.holds(normal, follow=follow):
            raise RemoteError(1, f"cannot access '{normal}': Permission denied")
        return normal

    def require_s3(directives: Directives) -> None:
        if directives.transfer_method != "s3":
            raise ApiError(400, "Requested transfer method is not available.")

    @routes.post("/upload", status_code=201)
    def upload(path: GivenPath, body: Transfer) -> dict[str, Any]:
        require_s3(body.transfer_directives)
        return jobs.upload(inside(path), body.transfer_directives.file_size, body.account)

    @routes.post("/download", status_code=201)
    def download(path: GivenPath, body: Transfer) -> dict[str, Any]:
        require_s3(body.transfer_directives)
        return jobs.download(inside(path), body.account)

    @routes.post("/mv", status_code=201)
    def mv(path: GivenPath, body: Target) -> dict[str, Any]:
        source, target = inside(path, follow=False), inside(body.target_path)
        command = f"mv -f -- {template_path(source)} {template_path(target)}"
        return {"transferJob": jobs.submit("MoveFiles", "Move files", command, account=body.account)}

    @routes.post("/cp", status_code=201)
    def cp(path: GivenPath, body: Copy) -> dict[str, Any]:
        source, target = inside(path, follow=body.dereference), inside(body.target_path)
        links = "-L" if body.dereference else "-P"
        command = f"cp -f -R -p {links} -- {template_path(source)} {template_path(target)}"
        return {"transferJob": jobs.submit("CopyFiles", "Copy files", command, account=body.account)}

    @routes.delete("/rm")
    def rm(path: QueryPath, account: str | None = None) -> dict[str, Any]:
        command = f"rm -R -- {template_path(inside(path, follow=False))}"
        return {"transferJob": jobs.submit("DeleteFiles", "Delete files", command, account=account)}

    @routes.post("/compress", status_code=201)
    def compress(path: GivenTree, body: Compress) -> dict[str, Any]:
        source, target = (
            inside(path, follow=body.dereference or path.endswith("/.")),
            template_path(inside(body.target_path)),
        )
        directory, name = os.path.split(source)
        tar = f"tar {'-h ' if body.dereference else ''}-c{_TAR_LETTERS[body.compression]}f {target}"
        if body.match_pattern is None:
            commands = [f"{tar} -C {template_path(directory)} -- {template_path(name)}"]
        else:
            find = f"find . -type f -regex {shlex.quote(body.match_pattern)} -print0"
            commands = [f"cd {template_path(directory)}", f"{find} | {tar} --null -T -"]
        job = jobs.submit("CompressFiles", "Compress files", *commands, account=body.account)
        return {"transferJob": job}

    @routes.post("/extract", status_code=201)
    def extract(path: GivenPath, body: Extract) -> dict[str, Any]:
        source, target = template_path(inside(path)), template_path(inside(body.target_path))
        command = f"tar -x{_TAR_LETTERS[body.compression]}f {source} -C {target}"
        job = jobs.submit("CompressFiles", "Extract files", command, account=body.account)
        return {"transferJob": job}

    return routes
