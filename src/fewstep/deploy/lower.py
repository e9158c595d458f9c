"""From a trained policy to a program. This needs jax; what comes out does not."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep.algos import numerics, registry
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.deploy import (
    lower_crossq,
    lower_mfpo,
    lower_ppo,
    lower_sac,
    lower_smfp,
    lower_td3,
    lower_values,
)
from fewstep.deploy.builder import Builder
from fewstep.deploy.description import Box
from fewstep.deploy.program import FloatArray, Program
from fewstep.errors import FewstepError, UsageError
from fewstep.types import Spec


class Lowering(NamedTuple):
    """How one algorithm's policy is written as a program.

    Fields:
        action: ``(builder, cfg, policy, noise_free) -> name of the action in [-1, 1]``.
        value: ``(builder, cfg, policy, action) -> name of the action's value[1]``, None if there are no
            critics to ask.
    """

    action: Callable[[Builder, Any, Any, bool], str]
    value: Callable[[Builder, Any, Any, str], str] | None = None


LOWERINGS = {
    "crossq": Lowering(lower_crossq.lower, lower_values.twins),
    "mfpo": Lowering(lower_mfpo.lower, lower_values.categorical),
    "ppo": Lowering(lower_ppo.lower),
    "sac": Lowering(lower_sac.lower, lower_values.twins),
    "smfp": Lowering(lower_smfp.lower, lower_values.twins),
    "td3": Lowering(lower_td3.lower, lower_values.twins),
}


@numerics.own
def lower(
    algorithm: Algorithm,
    cfg: Any,
    policy: Any,
    spec: Spec,
    box: Box,
    mode: ActionMode | None = None,
    fixed: PRNGKeyArray | None = None,
) -> Program:
    """What the policy does in ``mode`` as a program.

    Args:
        algorithm, cfg, policy: as saved with a run.
        spec: sizes of the flat observation and action.
        box: the environment's bounds, which the program's action is in.
        mode: a single sample unless it says otherwise. Noise-free, every random draw is replaced by its
            centre, and the program has no noise input; with several candidates the critics are inside, and
            the noise is that of all of them, one after the other.
        fixed: the noise is no input but the one that ``Algorithm.act`` draws with this key for one
            observation.

    Raises:
        UsageError: no lowering is written for this algorithm, or it has no critics to choose by.
        FewstepError: the policy holds numbers that are not finite.
    """
    name, mode = algorithm.name, mode or ActionMode()
    if name not in LOWERINGS or registry.get(name) is not algorithm:
        raise UsageError(f"algorithm {name!r} cannot be exported; those that can: {', '.join(LOWERINGS)}")
    lowering, several = LOWERINGS[name], mode.candidates > 1
    b = Builder(spec.obs_size, mode.candidates, None if fixed is None else functools.partial(_drawn, fixed))
    # An accelerator's default would round the constants' products to fewer bits than float32 has.
    with jax.default_matmul_precision("highest"):
        action = lowering.action(b, cfg, policy, mode.noise_free)
        if several:
            if lowering.value is None:
                raise UsageError(f"{name} has no action values to choose the best of several actions by")
            action = b.emit("best", action, lowering.value(b, cfg, policy, action))
    program = b.finish(_to_box(b, action, box))
    if program.shapes()[program.output].size != spec.act_size:
        raise FewstepError(f"the policy's actions do not have the {spec.act_size} entries of its environment")
    return program


def _drawn(key: PRNGKeyArray, count: int) -> FloatArray:
    """The numbers do not depend on the shape that they are drawn in."""
    return np.asarray(jax.random.normal(key, (count,)), np.float32)


def _to_box(b: Builder, action: str, box: Box) -> str:
    low, high = np.array(box.low, np.float32), np.array(box.high, np.float32)
    if (low == -1.0).all() and (high == 1.0).all():
        return action
    return b.emit("box", action, low, high)
