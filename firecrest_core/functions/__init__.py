"""A Python function as a job: what is sent for it, the program that runs it on a compute node, and what comes back.

The call is pickled here (:mod:`~firecrest_core.functions.pickled_call`). The job's script
(:mod:`~firecrest_core.functions.script`) holds the call and the program that runs it
(:mod:`~firecrest_core.functions.runner`); a large call is a file of its own. What the function returned or raised is in
a file beside the job's claim, signed with a key of the task (:mod:`~firecrest_core.functions.result_place`). It is read
when the job has ended (:mod:`~firecrest_core.functions.outcome`).

With ``over``, each element of a job array calls the function with values of its own
(:mod:`~firecrest_core.functions.over`), and leaves a file of its own (:mod:`~firecrest_core.functions.array_outcome`).
"""
