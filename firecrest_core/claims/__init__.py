"""The claim protocol, by which one payload runs for a key however often its job is submitted.

``claim`` explains the claim and reads it, ``prologue`` has the shell code that takes it, ``bound_submission`` puts that
into a job, ``directory`` reads and changes the claims on the cluster, and ``protocol`` submits, resumes and cancels.
"""
