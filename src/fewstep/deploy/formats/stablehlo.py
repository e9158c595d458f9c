"""What a policy does as StableHLO through ``jax.export``, for any batch size, on CPU, CUDA or TPU.

One safetensors file: the tensor ``exported`` holds the bytes that ``jax.export.deserialize`` takes, the
header says what they are and has their SHA-256 sum. Weights are inside. Only this module of the formats needs
jax, and only when it is used.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fewstep.deploy.formats import checked_tensors as tensors
from fewstep.deploy.formats.extras import need
from fewstep.deploy.program.description import Description, Exported
from fewstep.deploy.program.program import FloatArray
from fewstep.deploy.runtime import DeployedPolicy
from fewstep.errors import FewstepError, UsageError

FORMAT = 3
TENSOR = "exported"
PLATFORMS = ("cpu", "cuda", "tpu")


def to_bytes(exported: Exported) -> bytes:
    """The content of the file.

    Raises:
        UsageError: jax, or the package flatbuffers that it serialises with, is not installed; or the policy
            was read from a file.
    """
    need("flatbuffers", "stablehlo")
    import jax
    from jax import export

    from fewstep.algos import numerics

    if exported.function is None:
        raise UsageError("a policy read from a file cannot be written as stablehlo; export the run itself")
    (batch,) = export.symbolic_shape("batch")
    sizes = [size for size in (exported.obs_size, exported.noise_size) if size]
    inputs = [jax.ShapeDtypeStruct((batch, size), np.float32) for size in sizes]
    # An accelerator's default has fewer bits than float32.
    with jax.default_matmul_precision("highest"):
        made = numerics.own(export.export(jax.jit(exported.function), platforms=PLATFORMS))(*inputs)
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
