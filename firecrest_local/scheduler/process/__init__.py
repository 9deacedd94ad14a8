"""The scheduler `process`: jobs are processes of this machine."""
