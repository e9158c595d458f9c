"""Where an environment is in its life: what every message about it names."""


class Place:
    """Counts episodes and steps of one environment; as text, how to find the place again.

    Attributes:
        env_id, index: how messages call it.
        episode_step, total_steps: steps begun in this episode and since construction.
    """

    def __init__(self, env_id: str, index: int) -> None:
        self.env_id, self.index = env_id, index
        self.episode_step = 0
        self.total_steps = 0
        self._seed: int | None = None
        self._resets_since_seed = 0

    def reset(self, seed: int | None) -> None:
        """An episode begins: from ``seed``, or (None) further along the environment's own random stream."""
        self.episode_step = 0
        if seed is not None:
            self._seed, self._resets_since_seed = seed, 0
        else:
            self._resets_since_seed += 1

    def step(self) -> None:
        """A step begins."""
        self.episode_step += 1
        self.total_steps += 1

    def __str__(self) -> str:
        seed = "no seed" if self._seed is None else f"seed {self._seed}"
        if self._resets_since_seed:
            seed += f" then {self._resets_since_seed} unseeded resets"
        return (
            f"{self.env_id} (environment {self.index}, episode step {self.episode_step}, "
            f"total step {self.total_steps}, {seed})"
        )
