"""Transfers of files and directories between the local side and a system.

Small files are sent directly, large ones by way of the site's S3 staging store, and directories as one archive. The
limits are the system's, from ``GET /status/systems``. ``upload`` and ``download`` wait until a transfer is complete.
``begin_…`` and ``finish_…`` are their parts before and after the wait for the site's transfer job, for callers that
must not block.
"""

from firecrest_core.transfer.download import begin_download, check_downloads, download, finish_download
from firecrest_core.transfer.localside import LocalPath
from firecrest_core.transfer.patterns import RemoteFile, find_files, is_pattern, match, plain_files
from firecrest_core.transfer.pending import PendingTransfer, Transferred
from firecrest_core.transfer.upload import begin_upload, check_uploads, finish_upload, upload

__all__ = [
    "LocalPath",
    "PendingTransfer",
    "RemoteFile",
    "Transferred",
    "begin_download",
    "begin_upload",
    "check_downloads",
    "check_uploads",
    "download",
    "find_files",
    "finish_download",
    "finish_upload",
    "is_pattern",
    "match",
    "plain_files",
    "upload",
]
