"""A real Airflow, alone or beside an embedded FirecREST, and the runs of its DAGs."""
