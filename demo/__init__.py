"""The demo of the example DAGs, in a real Airflow on an embedded FirecREST: `python -m demo`, or `make demo`."""
