"""What a run is told to do: settings and their ranges, the run's configuration, presets.

- ``config.settings``: the flat key space, reading and checking; sections with ranges as annotations.
- ``config.run``: the loop's settings, the whole of a run, how the sources are laid over each other.
- ``config.replay``: the replay buffer's settings, a section of every off-policy algorithm.
- ``config.presets``: named settings per algorithm, as TOML.
"""

from fewstep.config.replay import ReplayConfig
from fewstep.config.run import (
    RESERVED,
    RunConfig,
    TrainingConfig,
    from_file,
    from_toml,
    known_settings,
    parse_toml,
    resolve,
    seed_of,
)

__all__ = [
    "RESERVED",
    "ReplayConfig",
    "RunConfig",
    "TrainingConfig",
    "from_file",
    "from_toml",
    "known_settings",
    "parse_toml",
    "resolve",
    "seed_of",
]
