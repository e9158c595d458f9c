"""From joint states to commands by an exported policy. Nothing of ROS in here, so it is tested without it."""

from collections.abc import Sequence

import numpy as np

from fewstep.deploy import DeployedPolicy

FIELDS = ("position", "velocity", "effort")
LARGEST = float(np.finfo(np.float32).max)
"""A reading beyond it is not finite to the policy, and no reading."""


class Controller:
    """Keeps the newest reading of every number of the observation, and acts on them.

    Args:
        policy: an exported policy; best with ``--noise fixed`` or ``--actions mode``, so that one observation
            gives one action, else it needs ``rng``.
        sources: where each number of the observation comes from, in the policy's order: ``JOINT.position``,
            ``JOINT.velocity`` or ``JOINT.effort``. What is measured in other units than in training is
            converted before it comes here.
        timeout: seconds after which a reading is too old to act on.
        rng: draws the policy's noise, if it takes any as an input.

    Raises:
        ValueError: there are not as many sources as the policy has numbers, one is named twice, or one is no
            field of a joint.
    """

    def __init__(
        self,
        policy: DeployedPolicy,
        sources: Sequence[str],
        timeout: float,
        rng: np.random.Generator | None = None,
    ) -> None:
        if len(sources) != policy.obs_size:
            raise ValueError(f"the policy takes {policy.obs_size} numbers, {len(sources)} sources are given")
        for source in sources:
            joint, _, field = source.rpartition(".")
            if not joint or field not in FIELDS:
                raise ValueError(f"{source!r} is not JOINT.position, JOINT.velocity or JOINT.effort")
        self._places = {source: place for place, source in enumerate(sources)}
        if len(self._places) != len(sources):
            raise ValueError("a source is named twice")
        self.policy, self.sources, self.timeout = policy, tuple(sources), timeout
        self._rng = rng
        self._readings = np.zeros(len(sources), np.float32)
        self._heard = np.full(len(sources), -np.inf)

    def hear(
        self,
        joints: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float],
        effort: Sequence[float],
        stamp: float,
    ) -> None:
        """Take a joint state, measured at ``stamp`` seconds; a field may be empty, as in ROS."""
        for field, values in zip(FIELDS, (position, velocity, effort), strict=True):
            for joint, value in zip(joints, values, strict=False):
                place = self._places.get(f"{joint}.{field}")
                if place is not None and abs(value) <= LARGEST and stamp >= self._heard[place]:
                    self._readings[place], self._heard[place] = value, stamp

    def missing(self, now: float) -> list[str]:
        """The sources without a reading of the last ``timeout`` seconds, or with one from the future: clocks
        that differ by more than that, or one that was set back."""
        late = np.abs(now - self._heard) > self.timeout
        return [source for source, is_late in zip(self.sources, late, strict=True) if is_late]

    def act(self, now: float) -> np.ndarray | None:
        """The action, flat, in the units of training; None where a reading is missing: then the robot must be
        brought to rest by whoever drives it."""
        if self.missing(now):
            return None
        if self.policy.noise_size and self._rng is not None:
            return self.policy.act(self._readings, rng=self._rng).ravel()
        return self.policy.act(self._readings).ravel()
