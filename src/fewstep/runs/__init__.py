"""A run on disk: its directory, its JSON lines, its checkpoints and where it came from.

Nothing in here knows about jax or about algorithms: checkpoints take named numpy arrays, metrics take
    numbers.
"""
