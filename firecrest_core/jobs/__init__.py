"""Jobs on a system, independent of how they are submitted and watched.

``job`` has the job, ``key`` the key of its claim, ``submission`` the steps of every submission, ``status`` the status
from the scheduler's rows, and ``logs`` the last lines of the output.
"""
