"""A program as an ONNX model: ordinary operators of one opset, weights and description inside.

Inputs ``obs[batch, obs_size]`` and, where there is any, ``noise[batch, noise_size]``; output
``action[batch, act_size]``, float32 all. A value of several rows is a matrix whose rows are the candidates of
the first observation, then those of the second; so every operator sees two axes.
"""

import json
from typing import Any

import numpy as np

from fewstep.deploy.formats import checked_bytes as sealed
from fewstep.deploy.formats.extras import need
from fewstep.deploy.program.description import Exported
from fewstep.deploy.program.program import EPSILON, NOISE, OBS, Instruction, Program

FORMAT, OPSET, IR_VERSION = 3, 20, 10
"""Versions: of what the metadata ``fewstep`` holds, of the operators (Gelu came with 20), of the file."""
METADATA = "fewstep"
ACTION = "action"


def to_bytes(exported: Exported) -> bytes:
    """The content of the file.

    Raises:
        UsageError: the package onnx is not installed.
    """
    onnx = need("onnx", "onnx")
    program, about = exported.program, exported.description
    graph = _Graph(onnx, program)
    for step in program.instructions:
        graph.add(step)
    graph.node("Identity", [program.output], ACTION)
    inputs = [_port(onnx, name, program.inputs[name]) for name in (OBS, NOISE) if name in program.inputs]
    outputs = [_port(onnx, ACTION, exported.act_size)]
    body = onnx.helper.make_graph(graph.nodes, about.algorithm, inputs, outputs, graph.constants)
    model = onnx.helper.make_model(
        body,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fewstep",
        producer_version=about.fewstep,
    )
    header = {"format": FORMAT, "description": about.to_json(), sealed.KEY: sealed.BLANK}
    onnx.helper.set_model_props(model, {METADATA: json.dumps(header, sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    return sealed.seal(model.SerializeToString(deterministic=True))


def _port(onnx: Any, name: str, size: int) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])


class _Graph:
    """The nodes and constants so far."""

    def __init__(self, onnx: Any, program: Program) -> None:
        self._onnx = onnx
        self._shapes = program.shapes()
        self.nodes: list[Any] = []
        self.constants = [
            onnx.numpy_helper.from_array(value, name) for name, value in program.constants.items()
        ]
        self._known: dict[tuple[str, bytes], str] = {}

    def node(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Append a node and give the name of its result."""
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(op, inputs, [output], **attributes))
        return output

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self._constant(np.float32(value))

    def integers(self, *values: int) -> str:
        """A vector of int64."""
        return self._constant(np.array(values, np.int64))

    def _constant(self, value: Any) -> str:
        array = np.asarray(value)
        key = (str(array.dtype), array.tobytes())
        if key not in self._known:
            self._known[key] = f"k{len(self._known)}"
            self.constants.append(self._onnx.numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def add(self, step: Instruction) -> None:
        """The nodes of one instruction."""
        args, out, numbers = list(step.args), step.out, step.numbers
        rows, size = self._shapes[out]
        match step.op:
            case "affine":
                self.node("Gemm", args, out)
            case "layer_norm":
                self.node("LayerNormalization", args, out, axis=-1, epsilon=EPSILON)
            case "rms_norm":
                square = self.node("Mul", [args[0], args[0]])
                mean = self.node("ReduceMean", [square, self.integers(-1)], keepdims=1)
                root = self.node("Sqrt", [self.node("Add", [mean, self.number(EPSILON)])])
                self.node("Div", [args[0], root], out)
            case "gelu":
                self.node("Gelu", args, out, approximate="tanh")
            case "silu":
                self.node("Mul", [args[0], self.node("Sigmoid", args)], out)
            case "softmax":
                self.node("Softmax", args, out, axis=-1)
            case "clip":
                self.node("Clip", [*args, *map(self.number, numbers)], out)
            case "slice":
                start, count = (int(number) for number in numbers)
                ends = [self.integers(start), self.integers(start + count), self.integers(-1)]
                self.node("Slice", [*args, *ends], out)
            case "box":
                self._box(args, out)
            case "rows":
                self.node("Reshape", [*args, self.integers(-1, size)], out)
            case "repeat":
                apart = self.node("Unsqueeze", [*args, self.integers(1)])
                several = self.node("Expand", [apart, self.integers(1, rows, 1)])
                self.node("Reshape", [several, self.integers(-1, size)], out)
            case "best":
                x, value = args
                count = self._shapes[x].rows
                apart = self.node("Reshape", [x, self.integers(-1, count, size)])
                values = self.node("Reshape", [value, self.integers(-1, count)])
                chosen = self.node("ArgMax", [values], axis=1, keepdims=1)
                self.node("GatherND", [apart, chosen], out, batch_dims=1)
            case _:
                self.node(_PLAIN[step.op], args, out)

    def _box(self, args: list[str], out: str) -> None:
        a, low, high = args
        one, half = self.number(1.0), self.number(0.5)
        below = self.node("Mul", [self.node("Mul", [self.node("Sub", [one, a]), half]), low])
        above = self.node("Mul", [self.node("Mul", [self.node("Add", [one, a]), half]), high])
        self.node("Add", [below, above], out)


_PLAIN = {
    "relu": "Relu",
    "tanh": "Tanh",
    "exp": "Exp",
    "add": "Add",
    "mul": "Mul",
    "min": "Min",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "sin": "Sin",
    "cos": "Cos",
}
