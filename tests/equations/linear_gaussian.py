"""The flow towards N(m, sigma^2 I), where everything is known in closed form.

With s_t^2 = (1-t)^2 sigma^2 + t^2 the path is x_t = (1-t) m + s_t z for a z fixed along it; hence the
velocity, its averages and the average divergence below. Works in any dimension and float type.
"""

from dataclasses import dataclass

import jax.numpy as jnp


@dataclass(frozen=True)
class LinearGaussian:
    mean: jnp.ndarray
    sigma: float

    def scale(self, t):
        return jnp.sqrt((1 - t) ** 2 * self.sigma**2 + t**2)

    def z(self, x, t):
        return (x - (1 - t) * self.mean) / self.scale(t)

    def velocity(self, x, t):
        slope = (t - (1 - t) * self.sigma**2) / self.scale(t)
        return -self.mean + slope * self.z(x, t)

    def average_velocity(self, x, r, t):
        return -self.mean + (self.scale(t) - self.scale(r)) / (t - r) * self.z(x, t)

    def average_divergence(self, x, r, t):
        return x.shape[-1] * jnp.log(self.scale(t) / self.scale(r)) / (t - r)

    def log_density(self, a):
        quad = jnp.sum(((a - self.mean) / self.sigma) ** 2)
        return -0.5 * quad - a.shape[-1] * (jnp.log(self.sigma) + 0.5 * jnp.log(2 * jnp.pi))
