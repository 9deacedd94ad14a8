"""A job, and how it is read from a script and its `#SBATCH` lines."""
