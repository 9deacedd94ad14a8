"""The Airflow connection: its hook, its fields, and clients that use it."""
