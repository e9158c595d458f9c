"""Which vectors of a program can share memory: a buffer is used again once its vector has been read last."""

from dataclasses import dataclass

from fewstep.deploy.program.program import Program


@dataclass(frozen=True)
class Plan:
    """``place[name]`` is the buffer of each vector the program makes; ``sizes`` are the buffers' lengths."""

    place: dict[str, int]
    sizes: list[int]


def plan(program: Program) -> Plan:
    """A plan in which no instruction writes where it reads."""
    shapes = program.shapes()
    last = {name: i for i, step in enumerate(program.instructions) for name in step.args}
    last[program.output] = len(program.instructions)
    place: dict[str, int] = {}
    buffers: list[int] = []
    free: list[int] = []
    for i, step in enumerate(program.instructions):
        size = shapes[step.out].rows * shapes[step.out].size
        # The smallest that holds it, else the largest, which grows.
        fitting = [index for index in free if buffers[index] >= size]
        if fitting:
            index = min(fitting, key=lambda index: buffers[index])
        elif free:
            index = max(free, key=lambda index: buffers[index])
        else:
            index = len(buffers)
            buffers.append(size)
        if index in free:
            free.remove(index)
        buffers[index] = max(buffers[index], size)
        place[step.out] = index
        free.extend(place[name] for name in set(step.args) if name in place and last[name] == i)
    return Plan(place, buffers)
