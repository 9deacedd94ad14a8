"""Ending the jobs of a flow run when a person has ended the flow run."""
