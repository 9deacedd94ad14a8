"""The demo of the example flows, with a real Prefect server on an embedded FirecREST: `python -m demo.prefect`."""
