"""Networks are given to the update that changes them; what can be said of them when that update fails."""

from typing import Any

import jax

from fewstep.errors import FewstepError

FAILURES = (jax.errors.JaxRuntimeError, MemoryError)
"""What the device raises when it cannot do what it was asked: out of memory, a callback that failed. Where it
is asked and waited for in one go, jax raises a ValueError instead; only lost networks tell that one."""


def is_gone(tree: Any) -> bool:
    """Whether arrays were given away and never came back, or what came back is the failure itself."""
    leaves = jax.tree.leaves(tree)
    if any(leaf.is_deleted() for leaf in leaves):
        return True
    try:
        jax.block_until_ready(leaves)
    except Exception:
        return True
    return False


def explained(error: BaseException, gone: bool) -> FewstepError | None:
    """The one line for what was raised while networks were used; None if it is no failure of the device."""
    if isinstance(error, FewstepError) or not isinstance(error, Exception):
        return None
    if gone:
        return lost(error)
    return kept(error) if isinstance(error, FAILURES) else None


def lost(error: BaseException) -> FewstepError:
    """The error for networks that ``error`` took away."""
    return FewstepError(
        f"the networks were lost when an update failed ({_reason(error)}); go on from what was saved last, "
        "with fewstep.load or `fewstep resume`"
    )


def kept(error: BaseException) -> FewstepError:
    """The error for a failure that left the networks as they were."""
    return FewstepError(f"the device failed ({_reason(error)}); the networks are as they were before")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
