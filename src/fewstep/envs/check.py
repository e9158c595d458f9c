"""What ``fewstep check-env`` does: try an environment for a moment and say what would hurt training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from fewstep import foreign
from fewstep.envs.vector import StepResult, VectorEnv, make
from fewstep.errors import FewstepError, UsageError

_LARGE = 100.0


@dataclass(frozen=True)
class Finding:
    """One thing to know about an environment.

    Attributes:
        level: ``"error"`` (it cannot be trained on), ``"warning"`` (training may suffer) or ``"info"``.
        message: what was seen.
        advice: what to do about it, empty for ``"info"``.
    """

    level: Literal["error", "warning", "info"]
    message: str
    advice: str = ""


def check_env(
    env: str | Callable[[], gymnasium.Env[Any, Any]], steps: int = 200, seed: int = 0
) -> list[Finding]:
    """Run ``steps`` random steps twice from the same ``seed`` and once from another; at least one finding.

    Whatever is wrong with the values it returns is a finding.

    Raises:
        UsageError: there is no such environment, or it cannot be built.
    """
    if steps < 1:
        raise UsageError(f"a check needs at least 1 step, got {steps}")
    vector, noted = make(env), list[str]()

    def fresh() -> list[StepResult]:
        """The rollout of a new environment; the one before is closed by then, for perhaps only one can be."""
        nonlocal vector
        vector.close()
        vector = make(env)
        return _rollout(vector, steps, seed, seed)

    with foreign.heard_by(noted.append):
        try:
            found = _findings(vector, steps, seed, fresh)
        except FewstepError as error:
            found = [
                Finding("error", str(error), "correct the environment; fewstep stops a run on such a value")
            ]
        finally:
            vector.close()
    return found + [
        Finding("warning", note, "fewstep goes on, other programs may not") for note in dict.fromkeys(noted)
    ]


def _findings(
    vector: VectorEnv, steps: int, seed: int, fresh: Callable[[], list[StepResult]]
) -> list[Finding]:
    first = _rollout(vector, steps, seed, seed)
    again = _rollout(vector, steps, seed, seed)
    other = _rollout(vector, steps, seed, seed + 1)
    sizes = f"observation {vector.spec.obs_size}, action {vector.spec.act_size}"
    limit = f"time limit {vector.max_episode_steps or 'none'}"
    found = [Finding("info", f"{vector.env_id}: {sizes}, {limit}; {steps} random steps gave sound values")]

    def warn(message: str, advice: str) -> None:
        found.append(Finding("warning", message, advice))

    if np.array_equal(first[0].obs, other[0].obs) and vector.toy is None:
        warn(
            f"seeds {seed} and {seed + 1} start from the same observation",
            "fine if the start is meant to be fixed; otherwise reset ignores its seed",
        )
    if vector.changes_returned_arrays():
        warn(
            "an observation that was returned before is changed by the next step",
            "fewstep copies, other code may not: return a fresh array (observation.copy())",
        )
    largest = np.abs(np.concatenate([result.obs for result in first])).max(0)
    if largest.max() > _LARGE and vector.spec.image is None:  # bytes of an image are scaled by its encoder
        warn(
            f"{vector.observation_name(int(largest.argmax()))} reaches {largest.max():.3g}",
            "networks learn best from entries of order 1: rescale it in the environment, or train with "
            "replay.normalise_obs=true (ppo normalises by itself)",
        )
    rewards = np.concatenate([result.reward for result in first])
    if np.abs(rewards).max() > _LARGE:
        warn(
            f"a reward of {rewards[np.abs(rewards).argmax()]:.3g} was seen",
            "check that the critic's value range covers such returns, or rescale the reward",
        )
    if vector.max_episode_steps is None and not any((r.terminated | r.truncated).any() for r in first):
        warn(
            f"no episode ended in {steps} steps and the environment declares no time limit",
            "give max_episode_steps when registering it; otherwise evaluation cuts its episodes "
            "(training.eval_max_steps)",
        )
    if not _same(first, again):
        if _same(first, fresh()):
            warn(
                f"seed {seed} and the same actions gave another rollout once the environment had been used: "
                "something survives its resets",
                "evaluation, with environments of its own, then judges the policy by other numbers than it "
                "learned with: begin anew in reset, or use constants in place of running statistics",
            )
        else:
            warn(
                f"seed {seed} and the same actions gave two different rollouts; runs will not repeat",
                "draw every random number from self.np_random after super().reset(seed=seed)",
            )
    return found


def _rollout(vector: VectorEnv, steps: int, action_seed: int, env_seed: int) -> list[StepResult]:
    """Random actions from ``action_seed``; the first entry holds the first observation."""
    rng = np.random.default_rng(action_seed)
    start = vector.reset([env_seed])
    flag = np.zeros(1, np.bool_)
    results = [StepResult(start, np.zeros(1, np.float32), flag, flag, flag, np.full(1, np.nan, np.float32))]
    for _ in range(steps):
        action = rng.uniform(-1.0, 1.0, (1, vector.spec.act_size)).astype(np.float32)
        results.append(vector.step(action))
        if results[-1].terminated[0] or results[-1].truncated[0]:
            vector.reset()
    return results


def _same(a: list[StepResult], b: list[StepResult]) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=x.dtype == np.float32)
        for left, right in zip(a, b, strict=True)
        for x, y in zip(left, right, strict=True)
    )
