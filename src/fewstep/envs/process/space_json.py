"""Spaces as JSON values, for environments that live in another process. Those that fewstep can learn on."""

from typing import Any

import numpy as np
from gymnasium import spaces


def to_json(space: spaces.Space[Any]) -> Any:
    """``space`` as what ``json.dumps`` takes; ``from_json`` gives back an equal one."""
    match space:
        case spaces.Dict():
            return {"dict": [[key, to_json(part)] for key, part in space.spaces.items()]}
        case spaces.Tuple():
            return {"tuple": [to_json(part) for part in space.spaces]}
        case spaces.Box():
            return {"box": [space.low.tolist(), space.high.tolist()], "dtype": str(space.dtype)}
        case spaces.MultiBinary():
            return {"binary": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Discrete():
            return {"discrete": [int(space.n), int(space.start)]}
        case spaces.MultiDiscrete():
            return {"multi": [space.nvec.tolist(), space.start.tolist()], "dtype": str(space.dtype)}
        case _:
            raise TypeError(f"{type(space).__name__} is not a space that can be learned on")


def from_json(value: Any) -> spaces.Space[Any]:
    """The space that ``to_json`` described."""
    match value:
        case {"dict": parts}:
            return spaces.Dict([(key, from_json(part)) for key, part in parts])
        case {"tuple": parts}:
            return spaces.Tuple([from_json(part) for part in parts])
        case {"box": ends, "dtype": dtype}:
            low, high = (np.array(end, dtype) for end in ends)
            return spaces.Box(low, high, low.shape, np.dtype(dtype).type)
        case {"binary": shape}:
            return spaces.MultiBinary(shape)
        case {"discrete": [n, start]}:
            return spaces.Discrete(n, start=start)
        case {"multi": [counts, starts], "dtype": dtype}:
            return spaces.MultiDiscrete(np.array(counts), np.dtype(dtype).type, start=np.array(starts))
        case _:
            raise ValueError("not the JSON form of a space")
