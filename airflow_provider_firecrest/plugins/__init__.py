"""What this distribution adds to Airflow's own processes."""
