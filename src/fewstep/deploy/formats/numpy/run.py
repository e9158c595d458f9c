"""Acting with numpy alone. Rows of a value, where it has several, are the last axis but one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fewstep.deploy.program.description import Exported
from fewstep.deploy.program.program import EPSILON, NOISE, OBS, FloatArray, Instruction, Program
from fewstep.deploy.runtime import DeployedPolicy, Run

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


def _softplus(x: FloatArray) -> Any:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


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
        case "clip":
            low, high = numbers
            return lambda x: np.minimum(np.maximum(x, low), high)
        case "slice":
            start, stop = int(numbers[0]), int(numbers[0] + numbers[1])
            return lambda x: x[..., start:stop]
        case "rows":
            count = int(numbers[0])
            return lambda x: x.reshape(*x.shape[:-1], count, -1)
        case "repeat":
            count = int(numbers[0])
            return lambda x: x[..., None, :].repeat(count, axis=-2)
        case _:
            return _PLAIN[step.op]


def _softmax(x: FloatArray) -> Any:
    powers = np.exp(x - np.maximum.reduce(x, axis=-1, keepdims=True))
    return powers / np.add.reduce(powers, axis=-1, keepdims=True)


def _best(x: FloatArray, value: FloatArray) -> Any:
    return np.take_along_axis(x, value.argmax(axis=-2, keepdims=True), axis=-2)[..., 0, :]


_PLAIN: dict[str, Step] = {
    "affine": lambda x, weight, bias: x @ weight + bias,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gelu": _gelu,
    "silu": _silu,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "exp": np.exp,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(np.minimum(-x, 88.0))),
    "softplus": _softplus,
    "sqrt": np.sqrt,
    "reciprocal": lambda x: 1.0 / x,
    "sin": np.sin,
    "cos": np.cos,
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "softmax": _softmax,
    "best": _best,
    "box": _box,
}


class NumpyPolicy(DeployedPolicy):
    """A policy that acts with numpy alone."""

    def __init__(self, exported: Exported, seed: int | None = None) -> None:
        """``seed`` decides the draws of a policy whose noise is ``inside``; None takes fresh entropy."""
        sizes = (exported.obs_size, exported.noise_size, exported.act_size)
        super().__init__(exported.description, sizes, runner(exported.program), seed)


def runner(program: Program) -> Run:
    """The program as a function of numpy arrays."""
    # Inputs by name, never by the order they were listed in.
    names = {name: i for i, name in enumerate((OBS, NOISE, *program.constants))}
    constants: list[Any] = list(program.constants.values())
    steps: list[tuple[Step, tuple[int, ...]]] = []
    for step in program.instructions:
        steps.append((function(step), tuple(names[name] for name in step.args)))
        names[step.out] = len(names)
    output = names[program.output]

    def run(obs: FloatArray, noise: FloatArray | None) -> Any:
        values: list[Any] = [obs, noise, *constants]
        # Far out of range float32 overflows; what matters, the action, is checked.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for function, args in steps:
                values.append(function(*[values[i] for i in args]))
        return values[output]

    return run
