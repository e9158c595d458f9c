"""All of fewstep's arithmetic in jax, whatever the process has set jax to.

jax keeps the default width of its numbers, its rules of promotion and its kind of random keys in switches of
the whole process, which the user's environment variables, script or environment module may have turned. What
is decorated with ``own`` (every jitted call is, by ``jit``) sees them as fewstep's numbers need them, and the
user's code finds its own again: the same bits, checkpoints and policies in every process.

It is also where the device is first asked for.
"""

import functools
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

import jax

from fewstep.errors import FewstepError

P = ParamSpec("P")
T = TypeVar("T")

_SWITCHES: tuple[tuple[Any, Any], ...] = (
    (jax.enable_x64, False),
    (jax.numpy_dtype_promotion, "standard"),
    (jax.numpy_rank_promotion, "allow"),
    (jax.default_prng_impl, "threefry2x32"),
    (jax.threefry_partitionable, True),
)
_found: list[str] = []
LEVEL = "xla_backend_optimization_level"


def own(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` with jax as fewstep needs it.

    Its calls raise FewstepError if jax has no device.
    """

    @functools.wraps(function)
    def called(*args: P.args, **named: P.kwargs) -> T:
        if not _found:
            device()
        for switch, wanted in _SWITCHES:  # reading them is ten times faster than setting them
            if switch.value != wanted:
                break
        else:
            return function(*args, **named)
        with ExitStack() as stack:
            for switch, wanted in _SWITCHES:
                stack.enter_context(switch(wanted))
            return function(*args, **named)

    return called


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``jax.jit``, every call of it ``own``; what jitted functions call is jitted by ``inner``.

    Raises:
        FewstepError: jax has no device.
    """
    return own(jax.jit(function, compiler_options=compiler_options(), **options))


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """``jax.jit`` of what other jitted functions call, so that it is traced once for all of them."""
    return own(jax.jit(function))


def compiler_options() -> dict[str, Any] | None:
    """On a CPU the second of LLVM's three levels, unless ``XLA_FLAGS`` names one.

    XLA has done what counts before LLVM sees a program: updates take as long at level 2 as at 3, and SMFP's
    compiles in two thirds of the time (``python -m benchmarks.compile_level``).
    """
    if device().startswith("cpu") and LEVEL not in os.environ.get("XLA_FLAGS", ""):
        return {LEVEL: 2}
    return None


def device() -> str:
    """The accelerator that jax uses, in words.

    Raises:
        FewstepError: jax finds none, usually because another platform was asked for.
    """
    if not _found:
        try:
            first = jax.devices()[0]
        except Exception as error:  # also an AssertionError without a word
            asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
            if not asked:
                lines = str(error).splitlines() or [type(error).__name__]
                raise FewstepError(f"jax finds no device: {lines[0]}") from error
            raise FewstepError(
                f"jax finds no device: JAX_PLATFORMS={asked} asks for a platform that is not here; unset "
                "JAX_PLATFORMS or set it to cpu, or install jax for that platform and its driver"
            ) from error
        _found.append(f"{first.platform}: {first.device_kind} x {jax.device_count()}")
    return _found[0]
