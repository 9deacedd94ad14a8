"""Cancelling the jobs of tasks that a person, or a limit that a person set, has ended."""
