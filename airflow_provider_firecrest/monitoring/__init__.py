"""What the page of HPC jobs knows, in Airflow's API server."""
