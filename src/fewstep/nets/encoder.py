"""A convolutional encoder of image observations, in front of a network: its own, trained with it.

Three layers of 32 kernels of 3 x 3 with strides 2, 2 and 1 and ReLU, then a dense layer to 50 features, layer
norm and tanh: the layout of SAC-AE (Yarats et al. 2019, arXiv 1910.01741) and DrQ (Kostrikov et al. 2020,
arXiv 2004.13649), which have a fourth convolution and share one encoder between actor and critics, trained by
the critics alone.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from fewstep.nets.layers import LayerNorm, Linear

Image = tuple[int, int, int]
"""Height, width, channels."""
CHANNELS, SIDE, STRIDES = 32, 3, (2, 2, 1)
FEATURES = 50
_kernels = jax.nn.initializers.he_normal()


class Convolution(eqx.Module):
    """Kernels over an image without padding, a bias, ReLU.

    It is one product of what each place sees with the kernels. In the scan that makes several updates XLA's
    own convolution takes six times as long on a CPU (30 and 5 ms for 64 images of 16 x 16, with gradient).
    """

    weight: Float[Array, "side side inputs outputs"]
    bias: Float[Array, "outputs"]
    stride: int = eqx.field(static=True)

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, stride: int) -> "Convolution":
        """Kernels from He's normal distribution, zero bias."""
        shape = (SIDE, SIDE, inputs, CHANNELS)
        return Convolution(_kernels(key, shape, jnp.float32), jnp.zeros(CHANNELS), stride)

    def __call__(self, x: Float[Array, "height width inputs"]) -> Float[Array, "h w outputs"]:
        """The filtered image: (height - 3) // stride + 1 rows, and columns likewise."""
        inputs, outputs = self.weight.shape[-2:]
        step = self.stride
        bottom, right = (step * ((side - SIDE) // step) + 1 for side in x.shape[:2])
        seen = [x[i : i + bottom : step, j : j + right : step] for i in range(SIDE) for j in range(SIDE)]
        weight = self.weight.reshape(SIDE * SIDE * inputs, outputs)
        return jax.nn.relu(jnp.concatenate(seen, axis=-1) @ weight + self.bias)


class Encoder(eqx.Module):
    """An image, flat and row by row as observations are, to ``FEATURES`` numbers in (-1, 1)."""

    layers: tuple[Convolution, ...]
    dense: Linear
    norm: LayerNorm
    image: Image = eqx.field(static=True)

    @staticmethod
    def create(key: PRNGKeyArray, image: Image) -> "Encoder":
        """Fresh parameters for images of at least 15 x 15."""
        height, width, channels = image
        k_dense, *keys = jax.random.split(key, 1 + len(STRIDES))
        layers = tuple(
            Convolution.create(k, inputs, stride)
            for k, inputs, stride in zip(keys, (channels, CHANNELS, CHANNELS), STRIDES, strict=True)
        )
        for stride in STRIDES:
            height, width = ((side - SIDE) // stride + 1 for side in (height, width))
        dense = Linear.create(k_dense, height * width * CHANNELS, FEATURES, "lecun_normal")
        return Encoder(layers, dense, LayerNorm.create(FEATURES), image)

    @staticmethod
    def before(key: PRNGKeyArray, image: Image | None) -> "tuple[Encoder | None, PRNGKeyArray]":
        """The encoder before a network, None where observations are no images, and the network's own key."""
        if image is None:
            return None, key
        k_encoder, key = jax.random.split(key)
        return Encoder.create(k_encoder, image), key

    def __call__(self, s: Float[Array, "pixels"] | UInt8[Array, "pixels"]) -> Float[Array, "features"]:
        """The features of one image of values from 0 to 255."""
        x = s.astype(jnp.float32).reshape(self.image) / 255.0
        for layer in self.layers:
            x = layer(x)
        return jnp.tanh(self.norm(self.dense(x.ravel())))


def encoded_size(obs_size: int, image: Image | None) -> int:
    """Numbers that a network sees of an observation: all, or the features of an image."""
    return obs_size if image is None else FEATURES
