"""A program as one C99 file and its header: no dependency but libm, no allocation, no state."""

import re

import numpy as np

from fewstep.deploy.formats.c import noise as c_random
from fewstep.deploy.formats.c import operations as c_pieces
from fewstep.deploy.program import buffers
from fewstep.deploy.program.description import Exported
from fewstep.deploy.program.program import ACROSS, NOISE, OBS, FloatArray, Instruction, Program, Shape
from fewstep.errors import require

PREFIX = "fewstep"
"""What every public name begins with, unless another is asked for."""
KEYWORDS = (
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|"
    "register|restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
)


def require_prefix(prefix: str) -> None:
    """Raise ``UsageError`` unless names of C may begin with ``prefix``."""
    require(
        re.fullmatch(rf"(?!({KEYWORDS})$)[A-Za-z][A-Za-z0-9_]*", prefix) is not None,
        f"--prefix must be a C identifier that begins with a letter, such as cheetah, got {prefix!r}",
    )


def files(exported: Exported, name: str, prefix: str = PREFIX) -> dict[str, bytes]:
    """The content of ``name``.c and ``name``.h, by suffix.

    With a ``prefix`` of its own everything in them that has a name at file level begins with it (macros with
    it in capitals), so that several policies go into one program.
    """
    seeded = exported.description.noise == "inside"
    return {
        ".c": _source(exported, name, seeded, prefix).encode(),
        ".h": _header(exported, name, seeded, prefix).encode(),
    }


def _public(code: str, prefix: str) -> str:
    """The C text with ``prefix`` in place of ``fewstep`` in its public names. It holds no text of others."""
    upper = re.sub(rf"\b{PREFIX.upper()}_", f"{prefix.upper()}_", code)
    return re.sub(rf"\b{PREFIX}_", f"{prefix}_", upper)


def literal(value: float) -> str:
    """An exact C literal of a finite float32: hexadecimal, so that nothing is rounded on the way."""
    mantissa, _, exponent = float(value).hex().partition("p")
    return f"{mantissa.rstrip('0') if '.' in mantissa else mantissa}p{exponent}f".replace(".p", "p")


def _about(exported: Exported) -> str:
    about = exported.description
    env = re.sub(r"[^\w:./+-]", "_", about.env)  # nothing that could end a comment
    sampling = {"sample": "one draw per call", "mode": "noise-free"}.get(about.actions, about.actions)
    repeat = f", each action for {about.action_repeat} steps" if about.action_repeat > 1 else ""
    return (
        f"{about.algorithm} policy for {env}, {sampling}{repeat}, after {about.env_steps} steps; "
        f"exported by fewstep {about.fewstep}."
    )


def _string(text: str) -> str:
    """A C string; what is not plain ASCII, and what begins a trigraph, as octal escapes of its UTF-8."""
    plain = set(range(32, 127)) - set(b'"?\\')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def _header(exported: Exported, name: str, seeded: bool, prefix: str) -> str:
    upper = prefix.upper()
    guard = f"{upper}_{re.sub(r'[^A-Za-z0-9_]', '_', name).upper()}_H"
    about = exported.description
    names = ", ".join(map(_string, about.obs_names))
    low, high = (", ".join(literal(float(np.float32(end))) for end in row) for row in (about.low, about.high))
    known = f"/* Actions per second that it was trained at. */\n#define {upper}_RATE_HZ {about.rate!r}\n"
    rate = "" if about.rate is None else known
    need = "independent standard normal numbers" if exported.noise_size else "not read, may be NULL"
    return f"""\
/* {_about(exported)} */
#ifndef {guard}
#define {guard}

#include <stdint.h>

#define {upper}_OBS_SIZE {exported.obs_size}
#define {upper}_NOISE_SIZE {exported.noise_size}
#define {upper}_ACT_SIZE {exported.act_size}

#define {upper}_VERSION {_string(about.fewstep)}
#define {upper}_WEIGHTS_SHA256 {_string(about.weights)}
/* What the numbers of an observation are called: const char *names[] = {upper}_OBS_NAMES; */
#define {upper}_OBS_NAMES {{{names}}}
/* Bounds of each entry of an action, both reached: const float low[] = {upper}_ACT_LOW; */
#define {upper}_ACT_LOW {{{low}}}
#define {upper}_ACT_HIGH {{{high}}}
{rate}
#ifdef __cplusplus
extern "C" {{
#endif

/* obs[{upper}_OBS_SIZE]: the observation, flattened, finite.
   noise[{upper}_NOISE_SIZE]: {need}.
   action[{upper}_ACT_SIZE]: written, in the environment's own units. A NaN that goes in comes out.
   Re-entrant: nothing but the stack and action is written. */
void {prefix}_act(const float *obs, const float *noise, float *action);
{_public(c_random.HEADER, prefix) if seeded else ""}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(exported: Exported, name: str, seeded: bool, prefix: str) -> str:
    program, plan = exported.program, buffers.plan(exported.program)
    head = (
        f"/* {_about(exported)}\n   Compile with: cc -std=c99 -O2 -c {name}.c; link with -lm.\n"
        f'   Stack: about {4 * sum(plan.sizes) + 256} bytes. */\n#include <math.h>\n\n#include "{name}.h"\n'
    )
    functions = _functions(program)
    parts = [
        *(_array(constant, value) for constant, value in program.constants.items()),
        *functions.values(),
        _act(program, plan),
        *([c_random.SOURCE] if seeded else []),
    ]
    code = "\n".join(parts)
    if prefix != PREFIX:
        local = "|".join([*program.constants, *functions, r"fs_\w+"])
        code = _public(re.sub(rf"\b({local})\b", rf"{prefix}_\1", code), prefix)
    return f"{head}\n{code}"


def _array(name: str, value: FloatArray) -> str:
    numbers = [literal(number) for number in value.ravel().tolist()]
    lines = (", ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6))
    return f"static const float {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def _functions(program: Program) -> dict[str, str]:
    """Each function that the program calls, by name, those called by others first."""
    shapes = program.shapes()
    scalars: dict[str, str] = {}
    loops: dict[str, str] = {}
    for step in program.instructions:
        n = shapes[step.out].size
        for name in c_pieces.scalars(step.op):
            scalars[f"fs_{name}"] = c_pieces.SCALARS[name]
        for name in c_pieces.MEANS.get(step.op, ()):
            loops[f"{name}_{n}"] = c_pieces.mean(name, n)
        loops[_name(program, shapes, step)] = _function(program, shapes, step)
    return scalars | loops


def _function(program: Program, shapes: dict[str, Shape], step: Instruction) -> str:
    (rows, n), name = shapes[step.out], _name(program, shapes, step)
    match step.op:
        case "affine":
            return c_pieces.affine(*program.constants[step.args[1]].shape)
        case "layer_norm" | "rms_norm":
            return c_pieces.norm(step.op, n)
        case "softmax":
            return c_pieces.softmax(n)
        case "best":
            return c_pieces.best(shapes[step.args[0]].rows, n)
        case "slice":
            return c_pieces.copy(name, n, f"{int(step.numbers[0])} + i")
        case "rows":
            return c_pieces.copy(name, rows * n, "i")
        case "repeat":
            return c_pieces.copy(name, rows * n, f"i % {n}")
        case _:
            return c_pieces.elementwise(step.op, n)


def _name(program: Program, shapes: dict[str, Shape], step: Instruction) -> str:
    rows, n = shapes[step.out]
    match step.op:
        case "affine":
            inputs, outputs = program.constants[step.args[1]].shape
            return f"affine_{inputs}_{outputs}"
        case "slice":
            return f"slice_{int(step.numbers[0])}_{n}"
        case "rows" | "repeat":
            return f"{step.op}_{rows}_{n}"
        case "best":
            return f"best_{shapes[step.args[0]].rows}_{n}"
        case _:
            return f"{step.op}_{n}"


def _act(program: Program, plan: buffers.Plan) -> str:
    shapes = program.shapes()

    def where(name: str, row: bool = False) -> str:
        base = f"t{plan.place[name]}" if name in plan.place else name
        return f"{base} + {shapes[name].size} * r" if row and name in shapes else base

    lines = [f"    float t{i}[{size}];" for i, size in enumerate(plan.sizes)]
    read = {name for step in program.instructions for name in step.args}
    lines += [f"    (void){name};" for name in (OBS, NOISE) if name not in read]
    for step in program.instructions:
        rows = shapes[step.out].rows if step.op not in ACROSS else 1
        if rows > 1:
            lines.append(f"    for (int r = 0; r < {rows}; r++)")
        values = [where(name, rows > 1) for name in (*step.args, step.out)]
        numbers = [] if step.op in ("slice", *ACROSS) else map(literal, step.numbers)
        call = f"{_name(program, shapes, step)}({', '.join([*numbers, *values])});"
        lines.append("    " * (1 + (rows > 1)) + call)
    # Only now, so that action may be the memory of obs or noise.
    lines += [
        f"    for (int i = 0; i < {shapes[program.output].size}; i++)",
        f"        action[i] = {where(program.output)}[i];",
    ]
    head = "void fewstep_act(const float *obs, const float *noise, float *action)\n{\n"
    return head + "\n".join(lines) + "\n}\n"
