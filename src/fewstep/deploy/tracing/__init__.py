"""From functions of jax to a program."""
