"""What runs jobs: processes of this machine, or its Slurm."""
