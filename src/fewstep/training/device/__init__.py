"""Training in which the environment, too, is a jax program: nothing but metrics leaves the device."""
