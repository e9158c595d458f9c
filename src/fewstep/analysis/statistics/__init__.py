"""Many runs and tasks as a few numbers: which variants compare, their scores, aggregates with intervals."""
