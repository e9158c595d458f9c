"""The tiny algorithm, sending its run a signal at its first compilation or at one of its updates."""

from dataclasses import replace

import jax
import jax.monitoring

from tests.e2e.tiny_algorithm import ALGORITHM as TINY
from tests.faults.signalling_env import send

UPDATE = 150
"""The update, counted from 0."""


def update(cfg, state, batch):
    """The tiny algorithm's, which tells the host of each update while it is at it."""

    def tell(updates):
        if (updates == UPDATE).any():
            send("update")

    jax.debug.callback(tell, state.updates)
    return TINY.update(cfg, state, batch)


def compiling(event, _seconds, **about):
    """Between the lowering of the updates of one dispatch and their compilation."""
    if event.endswith("jaxpr_to_mlir_module_duration") and "many" in str(about.get("fun_name")):
        send("compile")


jax.monitoring.register_event_duration_secs_listener(compiling)
ALGORITHM = replace(TINY, name="signalling", update=update)
