"""Environments in processes of their own: one that hangs or dies is noticed, named and, if allowed, replaced.

It costs about a tenth of a millisecond per step and is meant for environments that may take the process with
them (simulators in C, robots, network services); what merely raises or returns nonsense is caught without it.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep import foreign
from fewstep.envs.layers import NOT_SAID
from fewstep.envs.place import Place
from fewstep.envs.process import space_json, wire
from fewstep.envs.spaces import ActionView, FloatVector, ObservationView
from fewstep.errors import FewstepError, NonFiniteError, UsageError

_ERRORS = {kind.__name__: kind for kind in (FewstepError, NonFiniteError, UsageError)}
START_SECONDS = 120.0
"""For importing and building, on top of the time limit of a request."""
CLOSE_SECONDS = 5.0
"""For ``close`` of the environments of a process."""


@dataclass
class Supervision:
    """How environment processes are watched.

    Attributes:
        timeout: seconds that a reset or a step may take.
        restarts: how many processes may be replaced before a failure stops the run. Their episodes are lost.
        per_process: environments that share a process. Where restarts are allowed it is 1.
        notes: lines on what was replaced, for whoever takes them.
    """

    timeout: float = 60.0
    restarts: int = 0
    per_process: int = 1
    notes: list[str] = field(default_factory=list[str])


class Lost(FewstepError):
    """A process has failed and was replaced: the step did not happen, and the environment must be reset."""


class Process:
    """One environment process and the socket to it."""

    def __init__(
        self, env: str, limit: int | None, repeat: int, indices: list[int], watch: Supervision
    ) -> None:
        self._order = {"env": env, "limit": limit, "repeat": repeat, "indices": indices}
        self._building = Place(env, indices[0])
        self._watch = watch
        self._folder = foreign.home(env.rpartition(":")[0])
        self._start()

    def _start(self) -> None:
        self._end, theirs = socket.socketpair()
        path = os.pathsep.join(part or self._folder for part in sys.path)
        tied = ["tied"] if threading.current_thread() is threading.main_thread() else []
        self._running = True
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fewstep.envs.process.worker", str(theirs.fileno()), *tied],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C is for the run, which still needs its environments to save
        )
        theirs.close()
        self._settled = True
        try:
            self.about, _ = self.ask(self._order, b"", self._building, START_SECONDS)
        except BaseException:
            self.close()
            raise

    def ask(
        self, request: dict[str, Any], body: bytes, place: Place, more_seconds: float = 0.0
    ) -> tuple[dict[str, Any], bytes]:
        """Send a request and wait for its answer.

        Raises:
            FewstepError: what the environment did wrong, or how the process failed.
            Lost: the process failed and another one is there.
        """
        if not self._settled:  # it has failed, or the answer of an interrupted request may still come
            self.close()
            self._start()
        self._settled = False
        answer, numbers = self._ask(request, body, place, more_seconds)
        self._settled = True
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"])
        return answer, numbers

    def _ask(
        self, request: dict[str, Any], body: bytes, place: Place, more_seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        try:
            wire.send(self._end, request, body)
            return wire.receive(self._end, self._watch.timeout + more_seconds)
        except (wire.Gone, wire.Late) as error:
            late = isinstance(error, wire.Late)
            if late:
                how = f"gave no answer within {self._watch.timeout + more_seconds:g} s and was stopped"
            else:
                how = self._last_words()
            action = np.array2string(np.frombuffer(body, np.float32), precision=4, threshold=12)
            last = f", action in [-1, 1]: {action}" if body else ""
            message = f"the process of {place} {how}{last}".replace("\n", "")
            self.close(0.0 if late else CLOSE_SECONDS)
            if self._watch.restarts < 1 or more_seconds:
                raise FewstepError(message) from None
            self._watch.restarts -= 1
            self._start()
            self._watch.notes.append(f"{message}; it was started again and a new episode begins")
            raise Lost(message) from None

    def _last_words(self) -> str:
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return "closed its connection and was stopped"
        return (
            f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        )

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End the process, which may take so long to close its environments, and what they have left running;
        may be called twice."""
        self._end.close()
        if not self._running:
            return
        self._running = False
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        with suppress(ProcessLookupError):  # it leads a session of its own
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class RemoteAdapter:
    """One environment of a process, as ``VectorEnv`` sees it (compare ``Adapter``)."""

    def __init__(self, process: Process, at: int, place: Place) -> None:
        about = process.about
        self.index = place.index
        self.observation_space = space_json.from_json(about["observation_space"])
        self.action_space = space_json.from_json(about["action_space"])
        self.steps_per_second: float | None = about["steps_per_second"]
        self._observations = ObservationView(self.observation_space, place.env_id)
        actions = ActionView(self.action_space, place.env_id)
        self.obs_size, self.low, self.high = self._observations.size, actions.low, actions.high
        self.image = self._observations.image
        self.time_limit: int | None = about["time_limit"]
        self._process, self._at, self._place = process, at, place

    def reset(self, seed: int | None) -> FloatVector:
        """Start an episode; a process that fails in it is replaced and asked once more."""
        self._place.reset(seed)
        request = {"do": "reset", "at": self._at, "seed": seed}
        try:
            _, numbers = self._process.ask(request, b"", self._place)
        except Lost:
            _, numbers = self._process.ask(request, b"", self._place)
        return np.frombuffer(numbers, np.float32)

    def step(self, action: NDArray[Any]) -> tuple[FloatVector, float, bool, bool, float]:
        """As ``Adapter.step``."""
        self._place.step()
        body = action.astype(np.float32).tobytes()
        answer, numbers = self._process.ask({"do": "step", "at": self._at}, body, self._place)
        observation = np.frombuffer(numbers, np.float32)
        success = NOT_SAID if answer["success"] is None else answer["success"]
        return observation, answer["reward"], answer["terminated"], answer["truncated"], success

    def where(self) -> str:
        """Which environment, when, and how to get there again."""
        return str(self._place)

    def observation_name(self, index: int) -> str:
        """What entry ``index`` of the flat observation is called in the environment's own terms."""
        return self._observations.name(index)

    def render(self) -> NDArray[np.uint8]:
        """Pictures are made in this process only."""
        raise UsageError("an environment in a process of its own cannot be drawn")

    def close(self) -> str:
        """End the process; nothing goes wrong in it."""
        self._process.close()
        return ""


def start(env: str, count: int, limit: int | None, repeat: int, watch: Supervision) -> list[RemoteAdapter]:
    """``count`` environments in processes of ``watch.per_process`` each.

    Raises:
        UsageError: the environment does not exist, cannot be built or learned on.
        FewstepError: a process failed while building it.
    """
    adapters: list[RemoteAdapter] = []
    try:
        for first in range(0, count, watch.per_process):
            indices = list(range(first, min(count, first + watch.per_process)))
            process = Process(env, limit, repeat, indices, watch)
            adapters += [RemoteAdapter(process, at, Place(env, index)) for at, index in enumerate(indices)]
    except BaseException:
        for adapter in adapters:
            adapter.close()
        raise
    return adapters
