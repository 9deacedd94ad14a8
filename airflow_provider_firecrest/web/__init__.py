"""The page *HPC Jobs* in Airflow's UI, served by its API server."""
