"""The process that supervised environments live in: ``python -m fewstep.envs.process.worker FD [tied]``.

It is started fresh, never forked, and never imports jax. It builds its environments from their id, answers
one request after another on the socket that it inherits, and ends when the other end does.
"""

import ctypes
import math
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from fewstep.envs.adapter import Adapter
from fewstep.envs.layers import repeated, time_limit
from fewstep.envs.process import space_json, wire
from fewstep.envs.registry import resolve
from fewstep.errors import FewstepError
from fewstep.foreign import brief


def main() -> None:
    """Serve until the socket closes."""
    if "tied" in sys.argv[2:]:
        _end_with_parent()
    with socket.socket(fileno=int(sys.argv[1])) as end, suppress(wire.Gone):
        order, _ = wire.receive(end)
        adapters = _answered(end, lambda: _build(end, order))
        try:
            while adapters is not None:
                head, body = wire.receive(end)
                adapter = adapters[head["at"]]
                _answered(end, lambda a=adapter, h=head, b=body: _do(end, a, h, b))
        finally:
            for adapter in adapters or ():
                adapter.close()  # also ends what an environment has started


def _end_with_parent() -> None:
    """Die with the thread that started this process, also when it is killed while an environment hangs
    (Linux). That thread must be the one that its process ends with."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _answered(end: socket.socket, work: Any) -> Any:
    """Do the work; what goes wrong is the answer."""
    try:
        return work()
    except wire.Gone:
        raise
    except FewstepError as error:
        wire.send(end, {"error": type(error).__name__, "message": str(error)})
    except BaseException as error:  # a KeyboardInterrupt, too: no user sits before this process
        wire.send(end, {"error": "FewstepError", "message": f"the environment process raised {brief(error)}"})
    return None


def _build(end: socket.socket, order: dict[str, Any]) -> list[Adapter]:
    build = resolve(order["env"])
    made = [repeated(build(None, order["limit"]), order["repeat"]) for _ in order["indices"]]
    adapters = [Adapter(env, order["env"], at) for env, at in zip(made, order["indices"], strict=True)]
    first = adapters[0]
    answer = {
        "observation_space": space_json.to_json(first.observation_space),
        "action_space": space_json.to_json(first.action_space),
        "steps_per_second": first.steps_per_second,
        "time_limit": time_limit(first.env),
    }
    wire.send(end, answer)
    return adapters


def _do(end: socket.socket, adapter: Adapter, head: dict[str, Any], body: bytes) -> None:
    if head["do"] == "reset":
        wire.send(end, {}, adapter.reset(head["seed"]).tobytes())
        return
    observation, reward, terminated, truncated, success = adapter.step(np.frombuffer(body, np.float32))
    answer: dict[str, Any] = {"reward": reward, "terminated": terminated, "truncated": truncated}
    answer["success"] = None if math.isnan(success) else success
    wire.send(end, answer, observation.tobytes())


if __name__ == "__main__":
    main()
