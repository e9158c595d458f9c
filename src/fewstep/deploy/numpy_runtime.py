"""Acting with numpy alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fewstep.deploy.description import Description, Exported
from fewstep.deploy.program import EPSILON, NOISE, OBS, FloatArray, Instruction
from fewstep.errors import NonFiniteError, UsageError

Step = Callable[..., Any]


def _inverse_root_mean_square(x: FloatArray) -> Any:
    # The sum by itself: on vectors this short numpy's mean costs several times as much.
    return 1.0 / np.sqrt(np.add.reduce(x * x, axis=-1, keepdims=True) * (1.0 / x.shape[-1]) + EPSILON)


def _layer_norm(x: FloatArray, scale: FloatArray, bias: FloatArray) -> Any:
    centred = x - np.add.reduce(x, axis=-1, keepdims=True) * (1.0 / x.shape[-1])
    return centred * _inverse_root_mean_square(centred) * scale + bias


def _rms_norm(x: FloatArray) -> Any:
    return x * _inverse_root_mean_square(x)


def _times_sigmoid(x: Any, slope: Any) -> Any:
    """x / (1 + exp(-slope)); beyond exp(88) float32 ends, where the quotient is 0 anyway."""
    return x / (1.0 + np.exp(np.minimum(-slope, 88.0)))


def _gelu(x: FloatArray) -> Any:
    # 0.5 x (1 + tanh(u)) = x sigmoid(2 u).
    return _times_sigmoid(x, 1.5957691216 * (x + 0.044715 * x * x * x))


def _silu(x: FloatArray) -> Any:
    return _times_sigmoid(x, x)


def _box(a: FloatArray, low: FloatArray, high: FloatArray) -> Any:
    return 0.5 * (1.0 - a) * low + 0.5 * (1.0 + a) * high


def function(step: Instruction) -> Step:
    """What the instruction does to its arguments."""
    numbers = step.numbers
    match step.op:
        case "axpy":
            k = numbers[0]
            return lambda x, y: y + k * x
        case "clip":
            low, high = numbers
            return lambda x: np.minimum(np.maximum(x, low), high)
        case "slice":
            start, stop = int(numbers[0]), int(numbers[0] + numbers[1])
            return lambda x: x[..., start:stop]
        case _:
            return _PLAIN[step.op]


_PLAIN: dict[str, Step] = {
    "affine": lambda x, weight, bias: x @ weight + bias,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gelu": _gelu,
    "silu": _silu,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "exp": np.exp,
    "add": np.add,
    "mul": np.multiply,
    "box": _box,
}


class NumpyPolicy:
    """A policy that acts with numpy alone.

    Attributes:
        description: where it comes from.
        obs_size, noise_size, act_size: numbers in a flat observation, noise and action.
    """

    description: Description
    obs_size: int
    noise_size: int
    act_size: int

    def __init__(self, exported: Exported, seed: int | None = None) -> None:
        """``seed`` decides the draws of a policy whose noise is ``inside``; None takes fresh entropy."""
        program = exported.program
        self.description = exported.description
        self.obs_size, self.noise_size = exported.obs_size, exported.noise_size
        self.act_size = exported.act_size
        # Inputs by name, never by the order they were listed in.
        names = {name: i for i, name in enumerate((OBS, NOISE, *program.constants))}
        self._values: list[Any] = [None, None, *program.constants.values()]
        self._steps: list[tuple[Step, tuple[int, ...]]] = []
        for step in program.instructions:
            self._steps.append((function(step), tuple(names[name] for name in step.args)))
            names[step.out] = len(names)
        self._output = names[program.output]
        self._rng = np.random.default_rng(seed) if exported.description.noise == "inside" else None

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
        values = list(self._values)
        values[0] = rows
        if self.noise_size:
            values[1] = self._noise(rows, noise, rng)
        elif noise is not None:
            raise UsageError("this policy takes no noise (it was exported with --mode mode)")
        # Far out of range float32 overflows; what matters, the action, is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            for function, args in self._steps:
                values.append(function(*[values[i] for i in args]))
        action: FloatArray = values[self._output]
        if not np.isfinite(action).all():
            raise NonFiniteError("the policy's action is not finite: the observation is far out of range")
        return action.reshape(*rows.shape[:-1], *self.description.action_shape)

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
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or array.shape[-1] != size:
            raise UsageError(
                f"{name} has shape {array.shape} and type {array.dtype}; the policy for "
                f"{self.description.env} takes [{size}] or [B, {size}] numbers"
            )
        with np.errstate(over="ignore"):
            flat = array.astype(np.float32)
        if not np.isfinite(flat).all():
            where = [int(i) for i in np.argwhere(~np.isfinite(flat))[0]]
            raise NonFiniteError(f"{name}{where} is {array[tuple(where)]}, not a finite float32 number")
        return flat
