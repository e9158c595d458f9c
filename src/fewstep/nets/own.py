"""Layers of the user's own, by ``module:make``, in the place of built-in ones.

``make(key, inputs, hidden, activation)`` gives a network, ``net(x[inputs]) -> features``, as a pytree whose
arrays are its parameters (an Equinox module). fewstep puts the linear head behind it. What is wrong with a
network is said before anything is trained: each is tried once on a few inputs.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep import foreign
from fewstep.errors import UsageError
from fewstep.nets.activations import ACTIVATIONS, Activation
from fewstep.nets.layers import Init, Linear

ROWS = 8
"""Inputs that a network is tried on."""
Features = Float[Array, "features"]


class Body(eqx.Module):
    """A network of the user's: its arrays, and whatever else its pytree holds, which must be hashable."""

    params: Any
    rest: Any = eqx.field(static=True)

    @staticmethod
    def of(net: Any) -> "Body":
        """``net`` in its two parts."""
        params, rest = eqx.partition(net, _is_array)
        leaves, tree = jax.tree.flatten(rest)
        return Body(params, (tuple(leaves), tree))

    def __call__(self, x: Float[Array, "inputs"]) -> Features:
        """The network's own call."""
        leaves, tree = self.rest
        return eqx.combine(self.params, jax.tree.unflatten(tree, leaves))(x)


class OwnNet(eqx.Module):
    """The user's layers and a linear head, on one sample."""

    body: Body
    head: Linear

    def __call__(self, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate on the concatenation of ``parts``."""
        return self.head(self.body(jnp.concatenate(parts)))


def create(
    source: str,
    key: PRNGKeyArray,
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    head_init: Init = "xavier_uniform",
    activation: Activation = "relu",
) -> OwnNet:
    """A fresh network of the factory ``source``.

    Args:
        source: ``module:make``.
        key: of its initial parameters.
        inputs, outputs: sizes.
        hidden, activation: what the factory is given, the second as a function of arrays.
        head_init: initialiser of the head's kernel.

    Raises:
        UsageError: the factory cannot be imported or raised, or its network is not one.
    """
    make = _factory(source)
    given = (inputs, tuple(hidden), ACTIVATIONS[activation])
    with jax.ensure_compile_time_eval():  # also while ``init`` is traced
        features = _tried(source, make, *given)
    k_body, k_head = jax.random.split(key)
    return OwnNet(_made(source, make, k_body, *given), Linear.create(k_head, features, outputs, head_init))


def _factory(source: str) -> Callable[..., Any]:
    module_name, colon, attribute = source.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"network must be module:make, a factory in a module of yours, got {source!r}")
    cannot = f"cannot load the network {source!r}"
    make: Any = foreign.call(
        lambda error: UsageError(f"{cannot}: {foreign.brief(error)}; {foreign.origin(module_name)}"),
        getattr,
        foreign.load(module_name, cannot),
        attribute,
    )
    if not callable(make):
        raise UsageError(f"{cannot}: {attribute} is no function but a {type(make).__name__}")
    return make


def _made(source: str, make: Callable[..., Any], key: PRNGKeyArray, *given: Any) -> Body:
    def failed(error: BaseException) -> UsageError:
        return _wrong(
            source, f"{getattr(make, '__name__', 'the factory')} raised {foreign.said(source, error, make)}"
        )

    return Body.of(foreign.call(failed, make, key, *given))


@functools.lru_cache(maxsize=64)
def _tried(source: str, make: Callable[..., Any], inputs: int, hidden: Sequence[int], activation: Any) -> int:
    """The number of its features, once a network of the factory has proved sound."""
    body, again = (_made(source, make, jax.random.key(0), inputs, hidden, activation) for _ in range(2))
    leaves, tree = body.rest
    if not callable(jax.tree.unflatten(tree, leaves)):
        raise _wrong(source, "what the factory returns cannot be called; return an Equinox module, net(x)")
    params = jax.tree.leaves(body.params)
    if not params:
        raise _wrong(
            source, "it has no arrays, so nothing to train; return an Equinox module, not a function"
        )
    for leaf in params:
        if leaf.dtype != jnp.float32:
            raise _wrong(source, f"its arrays must be float32 parameters, one is {leaf.dtype}")
    try:
        hash(body.rest)
    except TypeError as error:
        raise _wrong(
            source, f"what it holds beside arrays must be hashable: {foreign.brief(error)}"
        ) from None
    if body.rest != again.rest or not _equal(body.params, again.params):
        raise _wrong(
            source,
            "made twice with the same key it differs; its parameters must come from the key, its functions "
            "be defined outside of the factory",
        )
    rows = jnp.asarray(np.random.default_rng(0).standard_normal((ROWS, inputs)), jnp.float32)

    def total(body: Body) -> tuple[Array, Array]:
        out: Any = jax.vmap(body)(rows)
        if not isinstance(out, jax.Array) or out.ndim != 2 or out.dtype != jnp.float32:
            got = f"{out.dtype}{list(out.shape[1:])}" if isinstance(out, jax.Array) else type(out).__name__
            raise _wrong(source, f"net(x) must return a vector of float32 features, got {got}")
        return out.sum(), out

    def failed(error: BaseException) -> UsageError:
        return _wrong(source, f"net(x) raised {foreign.said(source, error, make)}")

    # Jitted and differentiated, as training does it.
    grads, out = foreign.call(failed, jax.jit(jax.grad(total, has_aux=True)), body)
    for what, tree in (("parameters", body.params), ("features", out), ("gradients", grads)):
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)):
            raise _wrong(source, f"its {what} are not finite before anything is trained")
    return int(out.shape[1])


def _wrong(source: str, what: str) -> UsageError:
    return UsageError(f"network {source}: {what}")


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _equal(left: Any, right: Any) -> bool:
    one, other = jax.tree.leaves(left), jax.tree.leaves(right)
    return len(one) == len(other) and all(map(np.array_equal, one, other))
