"""Several seeds in one process."""
