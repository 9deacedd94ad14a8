"""All sensors, by their names."""

from airflow_provider_firecrest.sensors.filesystem import FirecRESTFileSensor
from airflow_provider_firecrest.sensors.job import FirecRESTJobSensor

__all__ = ["FirecRESTFileSensor", "FirecRESTJobSensor"]
