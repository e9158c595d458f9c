"""How often one trained policy reaches each of the four equal goals of ``toy/multigoal``.

    fewstep train mfpo toy/multigoal --preset small --out /tmp/multigoal
    python -m benchmarks.multigoal mfpo-small /tmp/multigoal

Episodes take single samples of the policy. As the start is noisy, the directions of actions at the exact
centre are counted too: there only the policy itself can choose between the goals.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from benchmarks import record
from fewstep import envs
from fewstep.algos.contract import ActionMode
from fewstep.envs.toys import multigoal
from fewstep.training import saved_policy

EPISODES = 400


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="row to record")
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    saved = saved_policy.load(arguments.run / "policy")
    act = jax.jit(lambda p, o, k: saved.algorithm.act(saved.cfg, p, o, k, ActionMode()))
    key = jax.random.key(0)

    vector = envs.make("toy/multigoal", EPISODES)
    obs = vector.reset(list(range(EPISODES)))
    running, reached = np.ones(EPISODES, bool), np.full(EPISODES, -1)
    returns, step = np.zeros(EPISODES), 0
    while running.any():
        actions = np.asarray(act(saved.policy, obs, jax.random.fold_in(key, step)))
        result = vector.step(actions, running)
        obs, step = result.obs, step + 1
        returns[running] += result.reward[running]
        done = running & result.terminated
        reached[done] = multigoal.goal_of(vector.toy.position(vector))[done]
        running &= ~(result.terminated | result.truncated)
    shares = [float((reached == goal).mean()) for goal in range(len(multigoal.GOALS))]

    centre = np.tile(vector.toy.probe_obs, (4000, 1))
    actions = np.asarray(act(saved.policy, centre, jax.random.fold_in(key, 10**6)))
    towards = np.argmax(actions @ np.asarray(multigoal.GOALS, np.float32).T, axis=1)
    record.update(
        "multigoal",
        arguments.name,
        {
            "episodes": EPISODES,
            "share_per_goal": shares,
            "share_no_goal": float((reached < 0).mean()),
            "mean_return": float(returns.mean()),
            "actions_at_centre_towards_goal": [round(float((towards == g).mean()), 3) for g in range(4)],
            "mean_action_length_at_centre": float(np.linalg.norm(actions, axis=1).mean()),
            "env_steps": saved.env_steps,
        },
    )


if __name__ == "__main__":
    main()
