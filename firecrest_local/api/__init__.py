"""The HTTP endpoints of the API, and what they have in common."""
