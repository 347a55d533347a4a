"""What can be trained: one folder for each task, listed in ``registry.py``."""
