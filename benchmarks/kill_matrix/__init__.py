"""The kill matrix: a real Airflow on an embedded FirecREST, and everything that can happen to a job's task."""
