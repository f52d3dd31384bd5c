"""The files here are run by `test_gpu.py`, each in a process of its own, and collected by nobody else."""

collect_ignore_glob = ["*.py"]
