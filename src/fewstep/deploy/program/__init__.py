"""A policy as a straight-line program, and what goes with it. No jax."""
