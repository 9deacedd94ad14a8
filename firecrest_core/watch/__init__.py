"""Waiting for many jobs with few requests.

``watcher`` queries the jobs of one system on a schedule, ``subscriptions`` has its jobs and their waiters, and
``tracker`` the state of one wait.
"""
