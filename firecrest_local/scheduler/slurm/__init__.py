"""The scheduler `slurm`: jobs go to the Slurm of this machine."""
