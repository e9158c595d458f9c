"""A search small enough for tests."""

import tomllib

from fewstep.tuning import spec
from tests.e2e.helpers import TINY

TEXT = f"""
algo = "{TINY}"
env = "toy/multigoal"
steps = 400
rungs = [200]
trials = 2

[set]
replay = {{ learning_starts = 50, batch_size = 8 }}
training = {{ log_every = 100, eval_every = 100, eval_episodes = 2, checkpoint_every = 200 }}

[search]
"actor.learning_rate" = {{ low = 1e-3, high = 1, log = true }}
actor.hidden = [[4], [8, 8]]

[resources]
jobs = 1
"""


def parsed(changes="", **top):
    """The search of ``TEXT`` with other values at the top, and more text at the end."""
    return spec.parse(tomllib.loads(TEXT + changes) | top, "it.toml")


def facts(trials):
    """All of a trial that must not depend on interruptions."""
    return [(t.number, t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs) for t in trials]
