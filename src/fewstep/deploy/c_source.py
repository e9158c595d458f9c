"""A program as one C99 file and its header: no dependency but libm, no allocation, no state."""

import re
from collections.abc import Iterable

from fewstep.deploy import buffers, c_pieces
from fewstep.deploy.description import Exported
from fewstep.deploy.program import NOISE, FloatArray, Instruction, Program


def files(exported: Exported, name: str) -> dict[str, bytes]:
    """The content of ``name``.c and ``name``.h, by suffix."""
    seeded = exported.description.noise == "inside"
    return {
        ".c": _source(exported, name, seeded).encode(),
        ".h": _header(exported, name, seeded).encode(),
    }


def literal(value: float) -> str:
    """An exact C literal of a finite float32: hexadecimal, so that nothing is rounded on the way."""
    mantissa, _, exponent = float(value).hex().partition("p")
    return f"{mantissa.rstrip('0') if '.' in mantissa else mantissa}p{exponent}f".replace(".p", "p")


def _about(exported: Exported) -> str:
    about = exported.description
    env = re.sub(r"[^\w:./+-]", "_", about.env)  # nothing that could end a comment
    sampling = "one draw per call" if about.mode == "sample" else "noise-free"
    return (
        f"{about.algorithm} policy for {env}, {sampling}, after {about.env_steps} steps; "
        f"exported by fewstep {about.fewstep}."
    )


def _header(exported: Exported, name: str, seeded: bool) -> str:
    guard = re.sub(r"\W", "_", name).upper() + "_H"
    need = "independent standard normal numbers" if exported.noise_size else "not read, may be NULL"
    return f"""\
/* {_about(exported)} */
#ifndef FEWSTEP_{guard}
#define FEWSTEP_{guard}

#include <stdint.h>

#define FEWSTEP_OBS_SIZE {exported.obs_size}
#define FEWSTEP_NOISE_SIZE {exported.noise_size}
#define FEWSTEP_ACT_SIZE {exported.act_size}

#ifdef __cplusplus
extern "C" {{
#endif

/* obs[FEWSTEP_OBS_SIZE]: the observation, flattened, finite.
   noise[FEWSTEP_NOISE_SIZE]: {need}.
   action[FEWSTEP_ACT_SIZE]: written, in the environment's own units. A NaN that goes in comes out.
   Re-entrant: nothing but the stack and action is written. */
void fewstep_act(const float *obs, const float *noise, float *action);
{c_pieces.RANDOM_HEADER if seeded else ""}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(exported: Exported, name: str, seeded: bool) -> str:
    program, plan = exported.program, buffers.plan(exported.program)
    parts = [
        f"/* {_about(exported)}\n   Compile with: cc -std=c99 -O2 -c {name}.c; link with -lm.\n"
        f'   Stack: about {4 * sum(plan.sizes) + 256} bytes. */\n#include <math.h>\n\n#include "{name}.h"\n',
        *(_array(constant, value) for constant, value in program.constants.items()),
        *_functions(program),
        _act(program, plan),
    ]
    return "\n".join(parts + ([c_pieces.RANDOM] if seeded else []))


def _array(name: str, value: FloatArray) -> str:
    numbers = [literal(number) for number in value.ravel().tolist()]
    lines = (", ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6))
    return f"static const float {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def _functions(program: Program) -> Iterable[str]:
    """Each function that the program calls, once, those called by others first."""
    sizes = program.sizes()
    scalars: dict[str, str] = {}
    loops: dict[str, str] = {}
    for step in program.instructions:
        n = sizes[step.out]
        for name in c_pieces.scalars(step.op):
            scalars[name] = c_pieces.SCALARS[name]
        for name in c_pieces.MEANS.get(step.op, ()):
            loops[f"{name}_{n}"] = c_pieces.mean(name, n)
        if step.op == "affine":
            loops[_name(program, sizes, step)] = c_pieces.affine(*program.constants[step.args[1]].shape)
        elif step.op in c_pieces.MEANS:
            loops[_name(program, sizes, step)] = c_pieces.norm(step.op, n)
        elif step.op != "slice":
            loops[_name(program, sizes, step)] = c_pieces.elementwise(step.op, n)
    return [*scalars.values(), *loops.values()]


def _name(program: Program, sizes: dict[str, int], step: Instruction) -> str:
    if step.op == "affine":
        rows, columns = program.constants[step.args[1]].shape
        return f"affine_{rows}_{columns}"
    return f"{step.op}_{sizes[step.out]}"


def _act(program: Program, plan: buffers.Plan) -> str:
    sizes = program.sizes()

    def where(name: str) -> str:
        return f"t{plan.place[name]}" if name in plan.place else name

    lines = [f"    float t{i}[{size}];" for i, size in enumerate(plan.sizes)]
    if NOISE not in program.inputs:
        lines.append("    (void)noise;")
    for step in program.instructions:
        out, args = where(step.out), [where(name) for name in step.args]
        if step.op == "slice":
            start, size = (int(number) for number in step.numbers)
            lines += [f"    for (int i = 0; i < {size}; i++)", f"        {out}[i] = {args[0]}[{start} + i];"]
            continue
        words = [*map(literal, step.numbers), *args, out]
        lines.append(f"    {_name(program, sizes, step)}({', '.join(words)});")
    # Only now, so that action may be the memory of obs or noise.
    lines += [
        f"    for (int i = 0; i < {sizes[program.output]}; i++)",
        f"        action[i] = {where(program.output)}[i];",
    ]
    head = "void fewstep_act(const float *obs, const float *noise, float *action)\n{\n"
    return head + "\n".join(lines) + "\n}\n"
