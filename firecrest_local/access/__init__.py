"""Who may use the server: its user, its secrets, its tokens."""
