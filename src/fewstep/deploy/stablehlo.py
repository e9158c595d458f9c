"""A program as StableHLO through ``jax.export``, for any batch size, on CPU, CUDA or TPU.

One safetensors file: the tensor ``exported`` holds the bytes that ``jax.export.deserialize`` takes, the
header says what they are and has their SHA-256 sum. Weights are inside. Only this module of the formats needs
jax, and only when it is used.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.deploy import tensors
from fewstep.deploy.description import Description, Exported
from fewstep.deploy.extras import need
from fewstep.deploy.program import EPSILON, NOISE, OBS, FloatArray, Instruction
from fewstep.deploy.runtime import DeployedPolicy
from fewstep.errors import FewstepError

FORMAT = 1
TENSOR = "exported"
PLATFORMS = ("cpu", "cuda", "tpu")


def to_bytes(exported: Exported) -> bytes:
    """The content of the file.

    Raises:
        UsageError: jax, or the package flatbuffers that it serialises with, is not installed.
    """
    need("flatbuffers", "stablehlo")
    import jax
    from jax import export

    from fewstep.algos import numerics

    (batch,) = export.symbolic_shape("batch")
    inputs = [
        jax.ShapeDtypeStruct((batch, exported.program.inputs[name]), np.float32) for name in ports(exported)
    ]
    made = numerics.own(export.export(jax.jit(function(exported)), platforms=PLATFORMS))(*inputs)
    blob = bytes(made.serialize())
    content = {
        "format": FORMAT,
        "description": exported.description.to_json(),
        "sizes": [exported.obs_size, exported.noise_size, exported.act_size],
        "jax": jax.__version__,
        "calling_convention": made.calling_convention_version,
        "platforms": PLATFORMS,
    }
    return tensors.to_bytes(content, {TENSOR: np.frombuffer(blob, np.uint8)})


def ports(exported: Exported) -> tuple[str, ...]:
    """Names of the inputs in the order of the function's arguments."""
    return (OBS, NOISE) if exported.noise_size else (OBS,)


def function(exported: Exported) -> Callable[..., Any]:
    """The program as a function of jax arrays ``(obs[B, obs_size])`` or ``(obs, noise[B, noise_size])``."""
    program = exported.program

    def act(*inputs: Any) -> Any:
        values: dict[str, Any] = {**program.constants, **dict(zip(ports(exported), inputs, strict=True))}
        for step in program.instructions:
            values[step.out] = _apply(step, [values[name] for name in step.args])
        return values[program.output]

    return act


def _apply(step: Instruction, args: list[Any]) -> Any:
    import jax
    import jax.numpy as jnp

    def unit(x: Any) -> Any:
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON)

    match step.op, args, step.numbers:
        case "affine", [x, weight, bias], _:
            # An accelerator's default has fewer bits than float32.
            return jnp.matmul(x, weight, precision="highest") + bias
        case "layer_norm", [x, scale, bias], _:
            return unit(x - jnp.mean(x, -1, keepdims=True)) * scale + bias
        case "rms_norm", [x], _:
            return unit(x)
        case "axpy", [x, y], (k,):
            return y + jnp.float32(k) * x
        case "clip", [x], (low, high):
            return jnp.clip(x, low, high)
        case "slice", [x], (start, size):
            return x[..., int(start) : int(start + size)]
        case "box", [a, low, high], _:
            return 0.5 * (1.0 - a) * low + 0.5 * (1.0 + a) * high
        case "rows", [x], (count,):
            return x.reshape(*x.shape[:-1], int(count), -1)
        case "repeat", [x], (count,):
            return jnp.repeat(x[..., None, :], int(count), axis=-2)
        case "best", [x, value], _:
            return jnp.take_along_axis(x, value.argmax(-2, keepdims=True), -2)[..., 0, :]
        case _:
            plain: dict[str, Callable[..., Any]] = {
                "gelu": jax.nn.gelu,
                "silu": jax.nn.silu,
                "relu": jax.nn.relu,
                "softmax": jax.nn.softmax,
                "tanh": jnp.tanh,
                "exp": jnp.exp,
                "add": jnp.add,
                "mul": jnp.multiply,
                "min": jnp.minimum,
            }
            return plain[step.op](*args)


class StableHloPolicy(DeployedPolicy):
    """A policy that jax carries out, compiled anew where it is opened, once per batch size.

    Attributes:
        exported: the ``jax.export.Exported``.
    """

    def __init__(self, path: Path, seed: int | None = None) -> None:
        """Open what ``fewstep export --to stablehlo`` wrote.

        ``seed`` decides the draws of a policy whose noise is ``inside``; None takes fresh entropy.

        Raises:
            UsageError: jax or flatbuffers is not installed.
            FewstepError: the file is something else, damaged, or of another format version.
        """
        need("flatbuffers", "stablehlo")
        need("jax", "stablehlo")
        from jax import export

        from fewstep.algos import numerics

        content, held = tensors.read(path, FORMAT)
        if set(held) != {TENSOR}:
            raise FewstepError(f"{path} is not a policy exported to stablehlo: it holds other tensors")
        self.exported = export.deserialize(bytearray(held[TENSOR].tobytes()))
        call = numerics.jit(self.exported.call)

        def run(obs: FloatArray, noise: FloatArray | None) -> Any:
            rows = [x if x.ndim == 2 else x[None] for x in (obs, noise) if x is not None]
            return np.asarray(call(*rows))

        sizes: Any = tuple(content["sizes"])
        super().__init__(Description.from_json(content["description"]), sizes, run, seed)
