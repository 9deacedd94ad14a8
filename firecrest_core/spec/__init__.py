"""The job specification, and the batch script and request that are made of it.

``jobspec`` has the specification and ``validation`` its checks, with ``arrays`` and ``quantities`` for the values.
``render`` makes the script and the request with ``slurm`` or ``pbs``, ``options`` and ``script``. ``output_paths`` says
where the job's output will be.
"""
