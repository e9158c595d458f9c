"""Run as a process with several host devices: a cohort on all of them beside one on the first device alone.

    python -m tests.e2e.on_devices ALGORITHM SEEDS

Prints one JSON object: what lies where, and how far the two are apart.
"""

import json
import sys

import jax

from fewstep.training.several import placement
from fewstep.training.several.cohort import Cohort
from tests.e2e.test_cohort import difference, trainers

STEPS = 40


def places(tree):
    """The ways in which leaves lie: on how many devices, and which part of the leading axis each holds.

    Leaves without a number in them are left out: jax does not divide those.
    """
    found = set()
    for leaf in jax.tree.leaves(tree):
        if not leaf.size:
            continue
        parts = {shard.data.shape[:1] for shard in leaf.addressable_shards}
        assert len(parts) == 1
        found.add((len(leaf.sharding.device_set), *parts.pop()))
    return sorted(found)


def main(name, count):
    spread, alone = trainers(name, count), trainers(name, count)
    cohort = Cohort(spread)
    for _ in range(STEPS):
        assert cohort.advance() == {}
    states, totals = cohort._joined
    found = {"visible": jax.device_count(), "states": places(states), "totals": places(totals)}
    found |= {"keys": places(cohort._keys), "updates": spread[0].updates}
    cohort.part()
    found["parted"] = places([trainer.learner.state for trainer in spread])
    real, placement.mesh_for = placement.mesh_for, lambda seeds: None
    single = Cohort(alone)
    for _ in range(STEPS):
        assert single.advance() == {}
    found["states_alone"] = places(single._joined[0])
    single.part()
    placement.mesh_for = real
    found["difference"] = max(difference(one, two) for one, two in zip(spread, alone, strict=True))
    cohort.drop(spread[0])
    cohort.advance()
    found["after_a_drop"] = places(cohort._joined[1])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
