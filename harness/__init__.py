"""What the demo, the tests and the benchmarks start: servers, a one-node Slurm, Airflow and Prefect."""
