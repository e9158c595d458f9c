"""Flat views of Gymnasium spaces: an observation becomes one float32 vector, a Box action becomes one too.

Observations are flattened as ``gymnasium.spaces.flatten`` does: parts in the order of the space (a plain
``dict`` given to ``Dict`` is sorted by key), arrays row by row, discrete parts as one-hot vectors. The views
keep the name of every entry, so that a bad value can be reported as ``observation['arm']['angle'][2]``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fewstep.envs.messages import kind
from fewstep.errors import UsageError, shown
from fewstep.foreign import brief

FloatVector = NDArray[np.float32]

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LEAST_SIDE = 16
"""Height and width from which on a Box of three axes is taken for a picture."""
ORDINARY = np.errstate(all="ignore")
"""How fewstep computes with the user's numbers, whatever the user has told numpy to raise: it checks each."""


class BadValue(Exception):
    """What is wrong with one value of an environment; the adapter adds where and when."""

    def __init__(self, message: str, *, non_finite: bool = False) -> None:
        super().__init__(message)
        self.non_finite = non_finite


@dataclass(frozen=True)
class _Part:
    """One array of an observation: how to reach it, what it must look like, how it becomes numbers.

    ``flags``: whether its numbers mean yes or no, so that bools are right. ``axes``: of an image, height,
    width and all others, in the order of the flat vector.
    """

    name: str
    path: tuple[Any, ...]
    shape: tuple[int, ...]
    size: int
    encode: Callable[[NDArray[Any]], NDArray[Any]]
    flags: bool = False
    axes: tuple[int, ...] = ()

    def entry(self, index: int) -> str:
        """The name of entry ``index`` of this part once flattened."""
        if int(np.prod(self.shape)) != self.size:
            return f"{self.name} (one-hot entry {index})"
        if not self.shape:
            return self.name
        axes = self.axes or tuple(range(len(self.shape)))
        at = np.unravel_index(index, [self.shape[axis] for axis in axes])
        return f"{self.name}[{', '.join(str(at[axes.index(axis)]) for axis in range(len(axes)))}]"

    def flatten(self, value: Any) -> NDArray[Any]:
        """``value`` as a vector of its own dtype.

        Raises BadValue if it is not an array of the right shape.
        """
        array = self.array(value)
        if array.shape != self.shape:
            raise BadValue(f"{self.name} has shape {array.shape}, its space says {self.shape}")
        return self.encode(array)

    def array(self, value: Any) -> NDArray[Any]:
        """``value`` as an array of numbers, of any shape.

        Raises BadValue if it is none.
        """
        try:
            array = np.asarray(value)
        except ValueError:
            raise BadValue(f"{self.name} is not a rectangular array of numbers") from None
        except Exception as error:  # an array of another library's, such as one with a gradient
            raise BadValue(f"{self.name} cannot be read as an array: {brief(error)}") from None
        if array.dtype.kind not in "fiub":
            raise BadValue(f"{self.name} is not numeric (dtype {array.dtype})")
        return array

    def rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """``[B, size]`` for an array of B values."""
        if self.encode is np.ravel:
            return array.reshape(len(array), self.size)
        return np.array([self.encode(value) for value in array]).reshape(len(array), self.size)


class ObservationView:
    """Turns the observations of one space into float32 vectors.

    Attributes:
        size: of a vector.
        image: ``Spec.image``.

    Raises UsageError, with advice, for spaces that have no meaningful vector form.
    """

    def __init__(self, space: spaces.Space[Any], env_id: str) -> None:
        self._space = space
        self._parts = list(_parts(space, "observation", (), env_id))
        self.image = _image(self._parts[0]) if self._parts else None
        self._box = space.shape if isinstance(space, spaces.Box) and self.image is None else None
        self.size = sum(part.size for part in self._parts)
        if self.size == 0:
            raise UsageError(f"{env_id} has an empty observation space; give it at least one number")

    @ORDINARY
    def flatten(self, observation: Any) -> FloatVector:
        """A fresh float32 ``[size]`` vector.

        Raises BadValue for wrong structure, shape, type or a non-finite value.
        """
        plain = self.plain(observation)
        return self._any(observation) if plain is None else plain

    def plain(self, observation: Any) -> FloatVector | None:
        """``flatten`` the short way, for what it is nearly always given: an array of finite floats in a Box's
        shape. None for all else, good or bad."""
        if type(observation) is not np.ndarray or observation.shape != self._box:
            return None
        if observation.dtype.kind != "f":
            return None
        vector = observation.ravel()
        # One sum instead of a pass per condition; a sum that overflows, or is not a number, says no.
        fine = float(vector.dot(vector)) <= _FLOAT32_MAX**2
        return vector.astype(np.float32) if fine else None

    def _any(self, observation: Any) -> FloatVector:
        vectors = [part.flatten(_reach(observation, part)) for part in self._parts]
        vector = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        if float(np.maximum.reduce(np.abs(vector))) <= _FLOAT32_MAX:  # nearly always; False for a NaN
            return vector.astype(np.float32)
        flat = vector.astype(np.float32)  # what overflows float32 is reported just below
        if not np.isfinite(flat).all():
            bad = int(np.flatnonzero(~np.isfinite(flat))[0])
            overflow = " in float32" if np.isfinite(vector[bad]) else ""
            raise BadValue(
                f"{self.name(bad)} is {float(vector[bad])}{overflow}, not a finite number", non_finite=True
            )
        return flat

    @ORDINARY
    def batch(self, observation: Any) -> tuple[NDArray[np.float32], bool]:
        """Rows ``[B, size]`` of one observation or of B, and whether it was a batch: then every part has one
        more leading axis of length B, which may be 0.

        This is for what a caller gives, so it is strict: no entry too many, no bool for a number.

        Raises BadValue if it is neither.
        """
        _require_structure(observation, self._space, "observation")
        arrays = [part.array(_reach(observation, part)) for part in self._parts]
        first, first_extra = self._parts[0], arrays[0].ndim - len(self._parts[0].shape)
        for part, array in zip(self._parts, arrays, strict=True):
            extra = array.ndim - len(part.shape)
            if extra not in (0, 1) or array.shape[extra:] != part.shape:
                more = ", ".join(map(str, ("B", *part.shape)))
                raise BadValue(
                    f"{part.name} has shape {array.shape}, its space {part.shape}, or [{more}] for a batch"
                )
            if array.dtype.kind == "b" and not part.flags:
                raise BadValue(f"{part.name} holds bools, its space numbers")
            if (extra, array.shape[:extra]) != (first_extra, arrays[0].shape[:first_extra]):
                raise BadValue(
                    f"{first.name} has shape {arrays[0].shape} and {part.name} {array.shape}: not one batch"
                )
        if not first_extra:
            arrays = [array[None] for array in arrays]
        parts = [part.rows(array) for part, array in zip(self._parts, arrays, strict=True)]
        rows = np.concatenate(parts, axis=1)
        flat = rows.astype(np.float32)
        if not np.isfinite(flat).all():
            row, bad = (int(i) for i in np.argwhere(~np.isfinite(flat))[0])
            overflow = " in float32" if np.isfinite(rows[row, bad]) else ""
            where = f" (row {row} of the batch)" if first_extra else ""
            raise BadValue(
                f"{self.name(bad)} is {float(rows[row, bad])}{overflow}, not a finite number{where}",
                non_finite=True,
            )
        return flat, bool(first_extra)

    def name(self, index: int) -> str:
        """What entry ``index`` of the flat vector is called in the environment's own terms."""
        for part in self._parts:
            if index < part.size:
                return part.entry(index)
            index -= part.size
        raise IndexError(index)


def _require_structure(value: Any, space: spaces.Space[Any], name: str) -> None:
    """Raise BadValue unless ``value`` has just the entries of ``space``, all the way down."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping):
            raise BadValue(
                f"{name} is {kind(value)}, its space a dict of {', '.join(map(repr, space.spaces))}"
            )
        for key in value:
            if key not in space.spaces:
                raise BadValue(f"{name} has an entry {shown(key)} that its space does not have")
        for key, inner in space.spaces.items():
            if key not in value:
                raise BadValue(f"{name} has no entry {key!r}, which its space promises")
            _require_structure(value[key], inner, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise BadValue(f"{name} is {kind(value)}, its space a tuple of {len(space.spaces)}")
        for index, inner in enumerate(space.spaces):
            _require_structure(value[index], inner, f"{name}[{index}]")


def _reach(observation: Any, part: _Part) -> Any:
    value = observation
    for depth, key in enumerate(part.path):
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            where = "observation" + "".join(f"[{k!r}]" for k in part.path[:depth])
            raise BadValue(f"{where} has no entry {key!r}, which its space promises") from None
    return value


def _parts(space: spaces.Space[Any], name: str, path: tuple[Any, ...], env_id: str) -> Iterator[_Part]:
    match space:
        case spaces.Dict():
            for key, inner in space.spaces.items():
                yield from _parts(inner, f"{name}[{key!r}]", (*path, key), env_id)
        case spaces.Tuple():
            for i, inner in enumerate(space.spaces):
                yield from _parts(inner, f"{name}[{i}]", (*path, i), env_id)
        case spaces.Box():
            axes = _image_axes(space)
            if axes:
                _require_encodable(space, f"{name} of {env_id}", alone=not path)
                yield _Part(
                    name, path, space.shape, int(np.prod(space.shape)), _image_bytes(name, axes), axes=axes
                )
                return
            yield _Part(name, path, space.shape, int(np.prod(space.shape)), np.ravel)
        case spaces.MultiBinary():
            yield _Part(name, path, space.shape, int(np.prod(space.shape)), np.ravel, flags=True)
        case spaces.Discrete():
            yield _Part(
                name, path, (), int(space.n), _one_hot(name, np.array([space.n]), np.array([space.start]))
            )
        case spaces.MultiDiscrete():
            encode = _one_hot(name, space.nvec.ravel(), space.start.ravel())
            yield _Part(name, path, space.shape, int(space.nvec.sum()), encode)
        case _:
            raise UsageError(
                f"{name} of {env_id} is a {type(space).__name__} space, which has no fixed vector form; wrap "
                "the environment with gymnasium.wrappers.TransformObservation so that it gives a Box"
            )


def _image_axes(space: spaces.Box) -> tuple[int, ...]:
    """The axes of a picture, height and width first; none for what does not look like one.

    The last three axes are height, width and channels, or channels first. Bytes may be several pictures on
    top of each other, so they may have more channels, or an axis of stacked frames in front.
    """
    if len(space.shape) < 3:
        return ()
    *stacked, first, middle, last = range(len(space.shape))
    most_channels = _LEAST_SIDE - 1 if space.dtype == np.uint8 else 4
    for height, width, channels in ((first, middle, last), (middle, last, first)):
        least = min(space.shape[height], space.shape[width])
        if least >= _LEAST_SIDE and space.shape[channels] <= most_channels:
            return (height, width, *stacked, channels)
    return ()


def _require_encodable(space: spaces.Box, name: str, *, alone: bool) -> None:
    """Raise UsageError unless the encoder of images can be given this one."""
    looks = f"{name} looks like an image (shape {space.shape}, {space.dtype})"
    if space.dtype != np.uint8:
        raise UsageError(f"{looks}; fewstep takes images of bytes: declare Box(0, 255, shape, np.uint8)")
    if not alone:
        raise UsageError(
            f"{looks} beside other observations; fewstep takes an image as the whole observation, or none: "
            "use gymnasium.wrappers.TransformObservation or FilterObservation"
        )
    if len(space.shape) > 4:
        raise UsageError(
            f"{looks}; fewstep takes at most one axis of stacked frames before the image's three"
        )


def _image(part: _Part) -> tuple[int, int, int] | None:
    """Height, width and channels of what has ``axes``; the channels of stacked frames one after the other."""
    if not part.axes:
        return None
    height, width = (part.shape[axis] for axis in part.axes[:2])
    return height, width, part.size // (height * width)


def _image_bytes(name: str, axes: tuple[int, ...]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Encoder of an image: row by row, channels last."""

    def encode(value: NDArray[Any]) -> NDArray[Any]:
        if value.dtype != np.uint8:
            raise BadValue(f"{name} holds {value.dtype}, its space uint8")
        return value.transpose(axes).ravel()

    return encode


def _one_hot(name: str, counts: NDArray[Any], starts: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Encoder of discrete values, value ``k`` of ``counts[k]`` choices from ``starts[k]`` on."""
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    size = int(counts.sum())

    def encode(value: NDArray[Any]) -> NDArray[Any]:
        choice = value.ravel().astype(np.int64) - starts
        if value.dtype.kind == "f" or (choice < 0).any() or (choice >= counts).any():
            raise BadValue(f"{name} is {value.tolist()}, not a value of its discrete space")
        vector = np.zeros(size, np.float32)
        vector[offsets + choice] = 1.0
        return vector

    return encode


class ActionView:
    """Maps actions in [-1, 1] linearly onto the bounds of a Box, reaching both ends exactly.

    Raises UsageError, with advice, for spaces that are not a Box of floats with finite, distinct bounds.
    """

    def __init__(self, space: spaces.Space[Any], env_id: str) -> None:
        if not isinstance(space, spaces.Box):
            raise UsageError(
                f"{env_id} has a {type(space).__name__} action space; fewstep learns continuous actions: use "
                "an environment with a Box action space"
            )
        if space.dtype.kind != "f":
            raise UsageError(
                f"{env_id} has a Box of {space.dtype} as action space; fewstep learns continuous actions: "
                "declare the Box with dtype=np.float32 and round inside the environment"
            )
        self.size = int(np.prod(space.shape))
        if self.size == 0:
            raise UsageError(f"{env_id} has an empty action space; there is nothing to learn")
        self._shape, self._dtype = space.shape, space.dtype
        self._unit = bool((space.low == -1.0).all() and (space.high == 1.0).all())
        self.low = space.low.astype(np.float64).ravel()
        self.high = space.high.astype(np.float64).ravel()
        # The largest float32 is how some environments write "no bound".
        unbounded = np.flatnonzero((np.abs(self.low) >= _FLOAT32_MAX) | (np.abs(self.high) >= _FLOAT32_MAX))
        if unbounded.size:
            raise UsageError(
                f"action dimension {unbounded[0]} of {env_id} has infinite bounds; give its Box finite "
                "bounds, in the environment or with gymnasium.wrappers.TransformAction"
            )
        empty = np.flatnonzero(self.low >= self.high)
        if empty.size:
            raise UsageError(
                f"action dimension {empty[0]} of {env_id} has low == high ({self.low[empty[0]]:g}), so it "
                "controls nothing; remove it from the action space"
            )

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """The environment's own action, fresh, in its shape and dtype, for ``action[size]`` in [-1, 1]."""
        if self._unit:
            return action.astype(self._dtype).reshape(self._shape)
        a = action.astype(np.float64)
        # This form gives exactly `low` at -1 and `high` at 1.
        scaled = 0.5 * (1.0 - a) * self.low + 0.5 * (1.0 + a) * self.high
        return scaled.astype(self._dtype).reshape(self._shape)

    def from_env(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """The inverse for rows ``[B, size]`` in the environment's units, also outside its bounds."""
        rows = actions.astype(np.float64)
        return rows if self._unit else (2.0 * rows - (self.high + self.low)) / (self.high - self.low)
