"""Files and directories between our side and a system.

Small files go directly, large ones over the site's S3 staging store, directories as one archive. The limits are
the system's own, from ``GET /status/systems``. ``upload`` and ``download`` do it all and wait; ``begin_…`` and
``finish_…`` are their halves before and after the wait for the site's transfer job, for who must not block.
"""

from firecrest_core.transfer.download import begin_download, download, finish_download
from firecrest_core.transfer.localside import LocalPath
from firecrest_core.transfer.pending import PendingTransfer, Transferred
from firecrest_core.transfer.upload import begin_upload, finish_upload, upload

__all__ = [
    "LocalPath",
    "PendingTransfer",
    "Transferred",
    "begin_download",
    "begin_upload",
    "download",
    "finish_download",
    "finish_upload",
    "upload",
]
