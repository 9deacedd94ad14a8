"""A real Prefect server, alone or beside an embedded FirecREST, and the runs of its flows."""
