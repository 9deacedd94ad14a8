"""Jobs that move files, and their form in the API."""

# Clients' paths are text here, on their way into a shell.
# ruff: noqa: PTH119

from __future__ import annotations

import math
import os
import shlex
import uuid
from typing import Any

from firecrest_local.errors import ApiError
from firecrest_local.scheduler.interface import JobDescription
from firecrest_local.site import Site

#: How many parts a multipart upload can have, as in S3.
MOST_PARTS = 10_000


def template_path(path: str) -> str:
    """Write a path for the shell as the real server's job template does: with HTML escapes."""
    for letter, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        path = path.replace(letter, escaped)
    return shlex.quote(path)


def transfer_directives(site: Site) -> list[str]:
    """Return the directives of every transfer job."""
    directives = ["#SBATCH --nodes=1", "#SBATCH --time=0-00:15:00"]
    if site.settings.scheduler == "process":
        directives.append(f"#SBATCH --partition={site.settings.transfer_partition}")
    return directives


def job_script(directives: list[str], title: str, *commands: str) -> str:
    """Make a job script that prints its title, and stops at the first command that fails."""
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
    """Submits the jobs that move files, and shows them in the form of the API.

    :param site: the cluster.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def submit(self, name: str, title: str, *commands: str, account: str | None) -> dict[str, Any]:
        """Submit a job of these shell commands and return it in the form of the API."""
        site = self._site
        unique = uuid.uuid4()
        output = f"{site.home}/.f7t_file_handling_job_{unique}.log"
        error = f"{site.home}/.f7t_file_handling_job_error_{unique}.log"
        job_id = site.scheduler.submit(
            JobDescription(
                working_dir=str(site.home),
                script=job_script(transfer_directives(site), title, *commands),
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
        """Prepare an upload to the store, and submit a job that waits for the object and puts it at `path`."""
        site = self._site
        store, largest = site.staging, site.settings.max_part_size
        if size is None or not 0 <= size <= largest * MOST_PARTS:
            raise ApiError(400, f"`fileSize` must be between 0 and {largest * MOST_PARTS} bytes.")
        key = store.new_object(site.identity.user, os.path.basename(path))
        upload_id = store.begin_upload()
        urls = [
            store.presign("PUT", key, {"uploadId": upload_id, "partNumber": str(number)})
            for number in range(1, math.ceil(size / largest) + 1)
        ]
        target, staged = template_path(path), shlex.quote(str(store.object_path(key)))
        job = self.submit(
            "IngressFileTransfer",
            "Ingress file transfer",
            f"target={target}",
            'if [ -d "$target" ]; then echo "$target is a directory" >&2; exit 3; fi',
            f"until [ -e {staged} ]; do sleep 0.2; done",
            f'cat -- {staged} > "$target.f7t-part"',
            'mv -f -- "$target.f7t-part" "$target"',
            f"rm -rf -- {shlex.quote(str(store.object_path(key).parent))}",
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
            "umask 077",
            f"cp -- {template_path(path)} {draft}",
            f"mv -- {draft} {shlex.quote(str(staged))}",
            account=account,
        )
        url = site.staging.presign("GET", key)
        return {"transferJob": job, "transferDirectives": {"transferMethod": "s3", "downloadUrl": url}}
