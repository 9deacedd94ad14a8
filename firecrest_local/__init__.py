"""An embedded FirecREST v2 server, for development and tests."""

from firecrest_local.faults.plan import Plan
from firecrest_local.server import LocalFirecREST
from firecrest_local.settings import Partition, Settings

__all__ = ["LocalFirecREST", "Partition", "Plan", "Settings"]
