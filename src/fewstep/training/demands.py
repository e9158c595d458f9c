"""What the contract of algorithms asks of the functions, tried before a run begins.

Mostly by tracing, which computes nothing; only ``init`` and acting are run, once. A run holds an algorithm of
the user's own to it, the contract tests hold those of fewstep.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fewstep.algos import normalised, numerics
from fewstep.algos.contract import Algorithm
from fewstep.algos.plugin import AlgorithmError
from fewstep.training import compiled, seeds
from fewstep.types import Spec

ROWS = 16
"""Observations that acting is tried on."""
ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float)
"""What jax takes as an array."""


@numerics.own
@functools.lru_cache(maxsize=16)
def check(algorithm: Algorithm, cfg: Any, spec: Spec, data: Any) -> None:
    """Try ``init``, ``update``, ``policy`` and all that acting takes.

    Args:
        algorithm: the record.
        cfg: its config.
        spec: sizes of observations and actions.
        data: shapes of one update's data (``jax.ShapeDtypeStruct``).

    Raises:
        AlgorithmError: one of them does not do what ``algos.contract`` asks; the message says what.
    """
    key = seeds.key(0, seeds.Stream.ALGORITHM)
    _, state = _traced(algorithm, "init", functools.partial(algorithm.init, cfg, spec), key)
    _check_streams(algorithm, state)
    _check_update(algorithm, cfg, state, data)
    _check_policies(algorithm, state)
    _check_acting(algorithm, cfg, spec, algorithm.policy(compiled.init(algorithm, cfg, spec)(key)))


def check_count(algorithm: Algorithm, state: Any, updates: int, key: np.ndarray) -> None:
    """After updates have been made: the state has counted them, and its root key is the one it began with.

    Raises:
        AlgorithmError: it has not, or it is not.
    """
    if int(state.updates) != updates:
        raise _uncounted(algorithm, f"after {updates} updates it is {int(state.updates)}")
    if not np.array_equal(root_key(state), key):
        raise _fault(algorithm, "update must leave state.key as it is: draws are addressed by state.updates")


def root_key(state: Any) -> np.ndarray:
    """The bits of the root key of a state."""
    return np.asarray(jax.random.key_data(state.key))


def _fault(algorithm: Algorithm, message: str) -> AlgorithmError:
    return AlgorithmError(f"algorithm {algorithm.source or algorithm.name}: {message}")


def _uncounted(algorithm: Algorithm, seen: str) -> AlgorithmError:
    return _fault(
        algorithm, f"update must add 1 to state.updates, but {seen}: every update would draw the same numbers"
    )


def _traced(algorithm: Algorithm, name: str, call: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """``call(*args)`` as a program, and the shapes of its result, whose leaves must be arrays.

    It is traced twice. What is not pure (numpy's random numbers, a counter outside, the clock) gives two
    different programs.
    """

    def arrays(*values: Any) -> Any:
        result = call(*values)
        for path, leaf in jax.tree_util.tree_leaves_with_path(result):
            if not isinstance(leaf, ARRAYS):
                where = jax.tree_util.keystr(path)
                raise _fault(algorithm, f"{name} must return arrays; its{where} is a {type(leaf).__name__}")
        return result

    # Each time another function to jax, which keeps the program of one that it has traced before.
    (first, shapes), (again, _) = (
        jax.make_jaxpr(lambda *values: arrays(*values), return_shape=True)(*args) for _ in range(2)
    )
    if not _same(first, again):
        raise _fault(
            algorithm,
            f"{name} must be pure, but called again with the same arguments it computes something else; "
            "random numbers must come from the key, and nothing may be kept between calls",
        )
    return first, shapes


def _same(left: Any, right: Any) -> bool:
    texts = [re.sub(r" at 0x[0-9a-f]+", "", str(program)) for program in (left, right)]
    return texts[0] == texts[1] and all(map(_equal, left.consts, right.consts))


def _equal(left: Any, right: Any) -> bool:
    if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
        left, right = jax.random.key_data(left), jax.random.key_data(right)
    return np.asarray(left).tobytes() == np.asarray(right).tobytes()


def _leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a state by their dotted paths, as its algorithm calls them."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in found]
    if isinstance(tree, normalised.State):
        names = [name.removeprefix("inner.") for name in names]
    return {name: leaf for name, (_, leaf) in zip(names, found, strict=True)}


def _check_streams(algorithm: Algorithm, state: Any) -> None:
    leaves = _leaves(state)
    for name in ("updates", "key"):
        if name not in leaves or not hasattr(state, name):
            raise _fault(
                algorithm, f"init must return a state with the fields updates and key; {name} is missing"
            )
    updates, key = leaves["updates"], leaves["key"]
    if updates.shape or updates.dtype != jnp.int32:
        raise _fault(algorithm, f"state.updates must be an int32 scalar, got {_kind(updates)}")
    if key.shape or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise _fault(algorithm, f"state.key must be the key that init was given, got {_kind(key)}")


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _check_update(algorithm: Algorithm, cfg: Any, state: Any, data: Any) -> None:
    def update(state: Any, data: Any) -> Any:
        result: Any = algorithm.update(cfg, state, data)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise _fault(algorithm, f"update must return (state, metrics), got a {type(result).__name__}")
        _check_metrics(algorithm, result[1])
        return result

    program, (after, _) = _traced(algorithm, "update", update, state, data)
    before, later = _leaves(state), _leaves(after)
    for name in before | later:
        if name not in before or name not in later:
            verb = "adds" if name in later else "drops"
            raise _fault(algorithm, f"update must keep the fields of the state, but {verb} {name}")
        if _kind(before[name]) != _kind(later[name]):
            change = f"{_kind(before[name])} becomes {_kind(later[name])}"
            raise _fault(algorithm, f"update must keep shapes and types, but state.{name}: {change}")
    if jax.tree.structure(state) != jax.tree.structure(after):
        raise _fault(algorithm, "update must keep the structure of the state: its classes and static fields")
    count = list(before).index("updates")
    if program.jaxpr.outvars[count] is program.jaxpr.invars[count]:
        raise _uncounted(algorithm, "returns it as it was")
    inputs = dict(zip([*before, *_leaves(data)], program.jaxpr.invars, strict=True))
    used = {id(var) for equation in program.jaxpr.eqns for var in equation.invars}
    if "discount" in _leaves(data) and id(inputs["discount"]) not in used:
        raise _fault(
            algorithm,
            "update does not use batch.discount, which stands in gamma's place with replay.n_step above 1",
        )


def _check_policies(algorithm: Algorithm, state: Any) -> None:
    _, policy = _traced(algorithm, "policy", algorithm.policy, state)
    if algorithm.collector is None:
        return
    _, collecting = _traced(algorithm, "collector", algorithm.collector, state)
    forms = [(jax.tree.structure(x), list(map(_kind, jax.tree.leaves(x)))) for x in (policy, collecting)]
    if forms[0] != forms[1]:
        raise _fault(algorithm, "collector must return a policy of the shapes of policy's")


def _check_metrics(algorithm: Algorithm, metrics: Any) -> None:
    if not isinstance(metrics, dict):
        raise _fault(algorithm, f"update must return its metrics as a dict, got a {type(metrics).__name__}")
    for name, value in metrics.items():
        if not (isinstance(name, str) and re.fullmatch(r"[^/\s]+(/[^/\s]+)+", name)):
            raise _fault(
                algorithm, f"metrics are named group/quantity, such as critic/loss; update gives {name!r:.80}"
            )
        array: Any = jnp.asarray(value) if isinstance(value, ARRAYS) else None
        if array is None or array.shape or not jnp.issubdtype(array.dtype, jnp.floating):
            got = f"a {type(value).__name__}" if array is None else _kind(array)
            raise _fault(algorithm, f"metric {name} must be a float scalar, got {got}")


def _check_acting(algorithm: Algorithm, cfg: Any, spec: Spec, policy: Any) -> None:
    obs, action, noise, number = (
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((spec.obs_size,), (spec.act_size,), algorithm.noise(cfg, policy), ())
    )

    def draw(policy: Any, obs: Any, noise: Any) -> Any:
        return algorithm.draw(cfg, policy, obs, noise)

    functions: dict[str, tuple[Callable[..., Any], tuple[Any, Any], Any]] = {
        "draw": (draw, (obs, noise), action)
    }
    if (value := algorithm.value) is not None:
        functions["value"] = (lambda p, o, a: value(cfg, p)(o, a), (obs, action), number)
    if (explore := algorithm.explore) is not None:
        functions["explore"] = (lambda p, a, e: explore(cfg, p, a, e), (action, action), action)
    for name, (function, given, wanted) in functions.items():
        _, shape = _traced(algorithm, name, function, policy, *given)
        got = _kind(shape) if isinstance(shape, jax.ShapeDtypeStruct) else f"a {type(shape).__name__}"
        if got != _kind(wanted):
            raise _fault(algorithm, f"{name} must return {_kind(wanted)}, got {got}")
    rng = np.random.default_rng(0)
    spread = np.repeat([1.0, 10.0], ROWS // 2)[:, None]
    rows = (spread * rng.standard_normal((ROWS, spec.obs_size))).astype(np.float32)
    for mode in (algorithm.native(cfg), algorithm.behaviour(cfg)):
        act = functools.partial(algorithm.act, cfg, mode=mode)
        jax.eval_shape(act, policy, rows, jax.random.key(0))

    def results(policy: Any, noise: jax.Array, exploration: jax.Array) -> dict[str, jax.Array]:
        drawn = jax.vmap(functools.partial(draw, policy))(rows, noise)
        found = {"draw": drawn}
        for name, given in (("value", (rows, jnp.clip(drawn, -1.0, 1.0))), ("explore", (drawn, exploration))):
            if name in functions:
                found[name] = jax.vmap(functools.partial(functions[name][0], policy))(*given)
        return found

    jitted = jax.jit(results, compiler_options={"xla_backend_optimization_level": 0})  # it is run twice
    for scale in (0.0, 1.0):
        draws = (scale * rng.standard_normal((ROWS, *x.shape)).astype(np.float32) for x in (noise, action))
        for name, numbers in jax.device_get(jitted(policy, *draws)).items():
            if not np.isfinite(numbers).all():
                raise _fault(algorithm, f"{name} must return finite numbers, got {_worst(numbers)}")


def _worst(numbers: np.ndarray) -> str:
    return f"{numbers.flat[np.argmax(np.abs(numbers))]:g}"
