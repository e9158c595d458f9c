"""From a trained policy to a program. This needs jax; what comes out does not."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fewstep.algos import registry
from fewstep.algos.contract import Algorithm
from fewstep.deploy import lower_mfpo, lower_ppo, lower_sac, lower_smfp
from fewstep.deploy.builder import Builder
from fewstep.deploy.description import Box
from fewstep.deploy.program import Program
from fewstep.errors import FewstepError, UsageError
from fewstep.types import Spec

Lowering = Callable[[Builder, Any, Any, bool], str]
"""``(builder, cfg, policy, noise_free) -> name of the action in [-1, 1]``."""

LOWERINGS: dict[str, Lowering] = {
    "mfpo": lower_mfpo.lower,
    "ppo": lower_ppo.lower,
    "sac": lower_sac.lower,
    "smfp": lower_smfp.lower,
}


def lower(
    algorithm: Algorithm, cfg: Any, policy: Any, spec: Spec, box: Box, noise_free: bool = False
) -> Program:
    """The policy's single sample (or its noise-free action) as a program.

    Args:
        algorithm, cfg, policy: as saved with a run; critics are left behind.
        spec: sizes of the flat observation and action.
        box: the environment's bounds, which the program's action is in.
        noise_free: every random draw replaced by its centre; the program then has no noise input.

    Raises:
        UsageError: no lowering is written for this algorithm.
        FewstepError: the policy holds numbers that are not finite.
    """
    name = algorithm.name
    if name not in LOWERINGS or registry.get(name) is not algorithm:
        raise UsageError(f"algorithm {name!r} cannot be exported; those that can: {', '.join(LOWERINGS)}")
    b = Builder(spec.obs_size)
    # An accelerator's default would round the constants' products to fewer bits than float32 has.
    with jax.default_matmul_precision("highest"):
        action = LOWERINGS[name](b, cfg, policy, noise_free)
    program = b.finish(_to_box(b, action, box))
    if program.sizes()[program.output] != spec.act_size:
        raise FewstepError(f"the policy's actions do not have the {spec.act_size} entries of its environment")
    return program


def _to_box(b: Builder, action: str, box: Box) -> str:
    low, high = np.array(box.low, np.float32), np.array(box.high, np.float32)
    if (low == -1.0).all() and (high == 1.0).all():
        return action
    return b.emit("box", action, low, high)
