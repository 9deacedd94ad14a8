"""What Prefect shows of jobs and files: artifacts, events, logs and assets."""
