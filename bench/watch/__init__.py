"""The live page: what runs and what is recorded, read from the files of a results folder and from nothing else."""
