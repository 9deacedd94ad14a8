"""All operators, by their names."""

from airflow_provider_firecrest.operators.array import FirecRESTArrayOperator
from airflow_provider_firecrest.operators.cancel import FirecRESTCancelOperator
from airflow_provider_firecrest.operators.filesystem import FirecRESTDeleteOperator, FirecRESTMakeDirectoryOperator
from airflow_provider_firecrest.operators.job import FirecRESTSubmitOperator
from airflow_provider_firecrest.operators.transfer import (
    FirecRESTDownloadFromJobOperator,
    FirecRESTDownloadOperator,
    FirecRESTUploadOperator,
)

__all__ = [
    "FirecRESTArrayOperator",
    "FirecRESTCancelOperator",
    "FirecRESTDeleteOperator",
    "FirecRESTDownloadFromJobOperator",
    "FirecRESTDownloadOperator",
    "FirecRESTMakeDirectoryOperator",
    "FirecRESTSubmitOperator",
    "FirecRESTUploadOperator",
]
