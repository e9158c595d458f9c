"""Speed and learning benchmarks; results with the commands that made them are in ``benchmarks/results``."""
