"""FirecREST for Prefect.

Prefect imports this module in every process that loads its collections, so that it knows the blocks here; what
speaks HTTP is imported when a block is used.
"""

from prefect_firecrest.credentials import FirecRESTCredentials

__all__ = ["FirecRESTCredentials"]
