"""What running jobs print, while they run.

``live_output`` shows the output of one job. Its files are read by the ``follower`` that all jobs of a server and a user
share, and ``output_file`` knows of one file what was read of it.
"""
