"""Fault injection: the plan, and what carries it out."""
