"""What acting has in common in every runtime: checked inputs, noise, actions in the environment's shape."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fewstep.deploy.program.description import Description
from fewstep.deploy.program.program import FloatArray
from fewstep.errors import NonFiniteError, UsageError
from fewstep.foreign import brief

Run = Callable[[FloatArray, FloatArray | None], Any]
"""``(obs, noise) -> flat action`` in the environment's units, for one row or ``[B, ...]`` of them."""


class DeployedPolicy:
    """A policy that acts outside the training library.

    Attributes:
        description: where it comes from.
        obs_size, noise_size, act_size: numbers in a flat observation, noise and action.
    """

    description: Description
    obs_size: int
    noise_size: int
    act_size: int

    def __init__(
        self, description: Description, sizes: tuple[int, int, int], run: Run, seed: int | None = None
    ) -> None:
        """``sizes`` are those of observation, noise and action.

        ``seed`` decides the draws of a policy whose noise is ``inside``; None takes fresh entropy.
        """
        self.description = description
        self.obs_size, self.noise_size, self.act_size = sizes
        self._run = run
        self._rng = np.random.default_rng(seed) if description.noise == "inside" else None

    def require_observation(self, names: Sequence[str]) -> None:
        """Raise UsageError unless the flat observation's numbers are called ``names``, in this order."""
        own = self.description.obs_names
        if len(names) != self.obs_size:
            raise UsageError(
                f"the policy for {self.description.env} takes {self.obs_size} numbers, not {len(names)}"
            )
        for i, (name, wanted) in enumerate(zip(names, own, strict=True)):
            if name != wanted:
                raise UsageError(f"number {i} of the policy's observation is {wanted}, not {name}")

    @np.errstate(all="ignore")  # what is not finite is found, whatever the caller's numpy would raise
    def act(
        self, obs: ArrayLike, noise: ArrayLike | None = None, rng: np.random.Generator | None = None
    ) -> FloatArray:
        """Choose an action.

        Args:
            obs: ``[obs_size]``, the environment's observation flattened, or a batch ``[B, obs_size]``.
            noise: ``[noise_size]`` (or ``[B, noise_size]``) independent standard normal numbers.
            rng: draws the noise if none is given.

        Returns:
            float32 in the environment's own units and shape, ``[*action_shape]`` or ``[B, *action_shape]``.

        Raises:
            UsageError: a wrong shape, or no noise where the policy needs some.
            NonFiniteError: a NaN or an infinity in the observation, the noise or the action.
        """
        rows = self._checked("observation", obs, self.obs_size)
        if self.noise_size:
            given = self._noise(rows, noise, rng)
        elif noise is not None:
            raise UsageError("this policy takes no noise: its action is a function of the observation")
        else:
            given = None
        shape = (*rows.shape[:-1], *self.description.action_shape)
        if not rows.size:
            return np.zeros(shape, np.float32)
        if given is None and rows.ndim == 2:
            # One at a time: how a product of matrices is rounded depends on how many rows it has.
            action: FloatArray = np.array([self._run(row, None) for row in rows])
        else:
            action = self._run(rows, given)
        if not np.isfinite(action).all():
            raise NonFiniteError("the policy's action is not finite: the observation is far out of range")
        return action.reshape(shape)

    def _noise(
        self, rows: FloatArray, noise: ArrayLike | None, rng: np.random.Generator | None
    ) -> FloatArray:
        shape = (*rows.shape[:-1], self.noise_size)
        if noise is not None:
            given = self._checked("noise", noise, self.noise_size)
            if given.shape != shape:
                raise UsageError(f"noise has shape {given.shape}, this observation needs {shape}")
            return given
        source = rng or self._rng
        if source is None:
            raise UsageError(
                f"this policy takes its noise as an input: act(obs, noise[{self.noise_size}]) "
                "or act(obs, rng=numpy.random.default_rng(seed))"
            )
        return source.standard_normal(shape, dtype=np.float32)

    def _checked(self, name: str, value: ArrayLike, size: int) -> FloatArray:
        try:
            array = np.asarray(value)
        except ValueError:
            raise UsageError(f"{name} is not a rectangular array of numbers") from None
        except Exception as error:  # an array of another library's, such as one with a gradient
            raise UsageError(f"{name} cannot be read as an array: {brief(error)}") from None
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or array.shape[-1] != size:
            raise UsageError(
                f"{name} has shape {array.shape} and type {array.dtype}; the policy for "
                f"{self.description.env} takes [{size}] or [B, {size}] numbers"
            )
        flat = array.astype(np.float32)
        if not np.isfinite(flat).all():
            where = [int(i) for i in np.argwhere(~np.isfinite(flat))[0]]
            raise NonFiniteError(f"{name}{where} is {array[tuple(where)]}, not a finite float32 number")
        return flat
