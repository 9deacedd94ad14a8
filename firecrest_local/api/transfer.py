"""`/filesystem/{system}/transfer`: operations on files of any size, done by jobs."""

# Clients' paths are text here, on their way into a shell.
# ruff: noqa: PTH119

import math
import os
import shlex
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from firecrest_local.api.request_body import ApiModel
from firecrest_local.api.status import transfer_directives
from firecrest_local.errors import ApiError, RemoteError
from firecrest_local.files.archives import Compression
from firecrest_local.scheduler.interface import JobDescription
from firecrest_local.site import Site

_TAR_LETTERS: dict[Compression, str] = {"none": "", "bzip2": "j", "gzip": "z", "xz": "J"}


class Directives(ApiModel):
    """How the bytes travel."""

    transfer_method: str
    file_size: int | None = None
    wormhole_code: str | None = None


class Transfer(ApiModel):
    """The body of an upload or a download."""

    transfer_directives: Directives
    account: str | None = None


class Target(ApiModel):
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


def templated(path: str) -> str:
    """A path as it comes out of the real server's job template, which escapes HTML, for the shell."""
    for letter, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        path = path.replace(letter, escaped)
    return shlex.quote(path)


def script_of(directives: list[str], title: str, *commands: str) -> str:
    """A job script that says what it does, and fails with the first command that fails."""
    return "\n".join(
        [
            "#!/bin/bash",
            *directives,
            "set -euo pipefail",
            f'echo "$(date -u) {title} (id:$SLURM_JOB_ID)"',
            *commands,
            'echo "$(date -u) Done."',
            "",
        ]
    )


class TransferJobs:
    """Submits the jobs that move files, and describes them.

    Parameters:
        site: the cluster.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def submit(self, name: str, title: str, *commands: str, account: str | None) -> dict[str, Any]:
        """Submit a job of these shell commands and describe it as the API does."""
        site = self._site
        unique = uuid.uuid4()
        output = f"{site.home}/.f7t_file_handling_job_{unique}.log"
        error = f"{site.home}/.f7t_file_handling_job_error_{unique}.log"
        job_id = site.scheduler.submit(
            JobDescription(
                working_directory=str(site.home),
                script=script_of(transfer_directives(site), title, *commands),
                name=name,
                account=account,
                standard_input="/dev/null",
                standard_output=output,
                standard_error=error,
                environment={"PATH": "/bin:/usr/bin/:/usr/local/bin/"},
            )
        )
        return {
            "jobId": job_id,
            "system": site.settings.system,
            "workingDirectory": str(site.home),
            "logs": {"outputLog": output, "errorLog": error},
        }

    def upload(self, path: str, size: int | None, account: str | None) -> dict[str, Any]:
        """Prepare an upload to the store, and a job that waits for the object and puts it at `path`."""
        site = self._site
        if size is None:
            # The real server divides what isn't there.
            raise ApiError(500, "(\"unsupported operand type(s) for /: 'NoneType' and 'int'\",)")
        store, largest = site.staging, site.settings.max_part_size
        key = store.new_object(site.identity.user, os.path.basename(path))
        upload_id = store.begin_upload()
        urls = [
            store.presign("PUT", key, {"uploadId": upload_id, "partNumber": str(number)})
            for number in range(1, math.ceil(size / largest) + 1)
        ]
        target, staged = templated(path), shlex.quote(str(store.object_path(key)))
        job = self.submit(
            "IngressFileTransfer",
            "Ingress file transfer",
            f"target={target}",
            'if [ -d "$target" ]; then echo "$target is a directory" >&2; exit 3; fi',
            f"until [ -e {staged} ]; do sleep 0.2; done",
            f'cp -- {staged} "$target.f7t-part"',
            'mv -f -- "$target.f7t-part" "$target"',
            account=account,
        )
        return {
            "transferJob": job,
            "transferDirectives": {
                "transferMethod": "s3",
                "partsUploadUrls": urls,
                "completeUploadUrl": store.presign("POST", key, {"uploadId": upload_id}),
                "maxPartSize": largest,
            },
        }

    def download(self, path: str, account: str | None) -> dict[str, Any]:
        """Submit a job that puts a file into the store, and give the URL where it will be."""
        site = self._site
        site.operations.stat(path, dereference=True)
        key = site.staging.new_object(site.identity.user, os.path.basename(path))
        staged = site.staging.object_path(key)
        draft = shlex.quote(f"{staged.parent}/.draft")
        job = self.submit(
            "OutgressFileTransfer",
            "Outgress file transfer",
            f"cp -- {templated(path)} {draft}",
            f"mv -- {draft} {shlex.quote(str(staged))}",
            account=account,
        )
        url = site.staging.presign("GET", key)
        return {"transferJob": job, "transferDirectives": {"transferMethod": "s3", "downloadUrl": url}}


def router(site: Site) -> APIRouter:
    """The endpoints."""
    checks = [Depends(check) for check in (site.authenticated, site.known_system, site.healthy_scheduler)]
    routes = APIRouter(prefix="/filesystem/{system_name}/transfer", dependencies=checks)
    jobs = TransferJobs(site)
    GivenPath = Annotated[str, Depends(site.given_path)]  # noqa: N806 (a type)
    GivenTree = Annotated[str, Depends(site.given_tree)]  # noqa: N806

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
        command = f"mv -f -- {templated(source)} {templated(target)}"
        return {"transferJob": jobs.submit("MoveFiles", "Move files", command, account=body.account)}

    @routes.post("/cp", status_code=201)
    def cp(path: GivenPath, body: Copy) -> dict[str, Any]:
        source, target = inside(path, follow=body.dereference), inside(body.target_path)
        links = "-L" if body.dereference else "-P"
        command = f"cp -f -R -p {links} -- {templated(source)} {templated(target)}"
        return {"transferJob": jobs.submit("CopyFiles", "Copy files", command, account=body.account)}

    @routes.delete("/rm")
    def rm(path: GivenPath, account: str | None = None) -> dict[str, Any]:
        command = f"rm -R -- {templated(inside(path, follow=False))}"
        return {"transferJob": jobs.submit("DeleteFiles", "Delete files", command, account=account)}

    @routes.post("/compress", status_code=201)
    def compress(path: GivenTree, body: Compress) -> dict[str, Any]:
        source, target = (
            inside(path, follow=body.dereference or path.endswith("/.")),
            templated(inside(body.target_path)),
        )
        directory, name = os.path.split(source)
        tar = f"tar {'-h ' if body.dereference else ''}-c{_TAR_LETTERS[body.compression]}f {target}"
        if body.match_pattern is None:
            commands = [f"{tar} -C {templated(directory)} -- {templated(name)}"]
        else:
            find = f"find . -type f -regex {shlex.quote(body.match_pattern)} -print0"
            commands = [f"cd {templated(directory)}", f"{find} | {tar} --null -T -"]
        job = jobs.submit("CompressFiles", "Compress files", *commands, account=body.account)
        return {"transferJob": job}

    @routes.post("/extract", status_code=201)
    def extract(path: GivenPath, body: Extract) -> dict[str, Any]:
        source, target = templated(inside(path)), templated(inside(body.target_path))
        command = f"tar -x{_TAR_LETTERS[body.compression]}f {source} -C {target}"
        job = jobs.submit("CompressFiles", "Extract files", command, account=body.account)
        return {"transferJob": job}

    return routes
