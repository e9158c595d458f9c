"""The loop on the device: written out step by step, cut anywhere, resumed, and beside the host's."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.errors import FewstepError, NonFiniteError, UsageError
from fewstep.runs import checkpoint, segments
from fewstep.training import compiled
from fewstep.training.device import loop, ring
from fewstep.training.device.toys import Multigoal
from fewstep.training.device.trainer import DeviceTrainer, make
from fewstep.training.trainer import Trainer
from fewstep.types import STORED, Transition
from tests.algos.common import assert_close, representatives, same
from tests.training.device.test_environments import Drift

LOOP = {
    "training.device_env": "toy/multigoal",
    "training.envs": 2,
    "training.log_every": 20,
    "training.eval_every": 0,
    "training.checkpoint_every": 0,
    "replay.learning_starts": 20,
    "replay.capacity": 50,
    "replay.batch_size": 8,
}


def config(name="sac", env="toy/multigoal", **more):
    algorithm = registry.get(name)
    return resolve(name, algorithm.config, env, seed=2, overrides=dict(algorithm.tiny) | LOOP | more)


def trainer(name="sac", **more):
    return make(config(name, **more), registry.get(name))


def on_the_host(name="sac", **more):
    return make(config(name, **{"training.device_env": None} | more), registry.get(name))


def go(one, until):
    while one.env_steps < until:
        one.advance()


def described(one):
    """Everything a checkpoint holds, as bytes."""
    groups, meta = one.snapshot()
    flat = {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}
    return {name: (a.dtype, a.shape, np.asarray(a, order="C").tobytes()) for name, a in flat.items()}, meta


def carry_of(algorithm, cfg, env, envs):
    state = algorithm.init(cfg, env.spec, jax.random.key(1))
    memory = ring.empty(cfg.replay.capacity, env.spec)
    first = 0 if algorithm.numbered else None
    example = ring.sample(memory, 1, jax.random.key(0), (cfg.replay.batch_size,), first)
    totals = compiled.zero_totals(algorithm, cfg, state, example)
    return loop.Carry(state, totals, memory, loop.begin(env, envs)(jax.random.key(2)))


def test_the_loop_is_what_is_written_out_here():
    """Two environments whose episodes are truncated after 5 steps; the buffer wraps."""
    algorithm, env, envs, iterations = registry.get("sac"), Drift(), 2, 12
    cfg = config(**{"replay.capacity": 10, "replay.learning_starts": 9}).algorithm
    start, key = carry_of(algorithm, cfg, env, envs), jax.random.key(5)
    state, memory = start.state, {}
    running = [
        (jax.tree.map(lambda x, e=e: x[e], start.episodes.envs), start.episodes.obs[e]) for e in (0, 1)
    ]
    returns, ended = [0.0, 0.0], []
    update = jax.jit(lambda state, batch: algorithm.update(cfg, state, batch)[0])
    for i in range(iterations):
        act, step, reset, sample = (jax.random.fold_in(jax.random.fold_in(key, i), use) for use in range(4))
        obs = jnp.stack([o for _, o in running])
        if (i + 1) * envs < 9:
            action = jax.random.uniform(act, (envs, 1), minval=-1.0)
        else:
            action = algorithm.collect(cfg, algorithm.policy(state), obs, act)
        for e in range(envs):
            made = env.step(running[e][0], action[e], jax.random.split(step, envs)[e])
            row = (obs[e], action[e], made.reward, made.terminated, made.obs)
            memory[(i * envs + e) % 10] = row
            running[e] = (made.state, made.obs)
            returns[e] += float(made.reward)
            if made.terminated or made.truncated:
                running[e] = env.reset(jax.random.split(reset, envs)[e])
                ended.append(returns[e])
                returns[e] = 0.0
        if (i + 1) * envs >= 9:
            at = jax.random.randint(sample, (envs, 8), 0, min((i + 1) * envs, 10))
            for rows in at:
                fields = zip(*(memory[int(place)] for place in rows), strict=True)
                state = update(state, Transition(*map(jnp.stack, fields)))
    found = loop.run(algorithm, cfg, env, envs)(start, key, 0, 0, iterations)
    assert int(found.state.updates) == int(state.updates) == 2 * (iterations - 4)
    assert_close(found.state.actor.params, state.actor.params, rtol=1e-3, atol=1e-5)
    for name, field in zip(STORED, range(5), strict=True):
        rows = [memory[place][field] for place in range(10)]
        np.testing.assert_allclose(getattr(found.memory, name), jnp.stack(rows), rtol=1e-4, atol=1e-4)
    assert not found.memory.terminated.any()
    assert int(found.episodes.ended) == len(ended) == 4
    np.testing.assert_allclose(found.episodes.return_sum, sum(ended), rtol=1e-4)
    assert float(found.episodes.length_sum) == 20.0
    np.testing.assert_allclose(found.episodes.returns, returns, rtol=1e-4)


@pytest.mark.parametrize("name", representatives("dipo", "smfp"))
def test_an_iteration_keeps_the_shapes_of_every_algorithm(name):
    algorithm = registry.get(name)
    if algorithm.rollout is not None:
        with pytest.raises(UsageError, match="learns from rollouts"):
            resolve(
                name, algorithm.config, "toy/multigoal", overrides={"training.device_env": "toy/multigoal"}
            )
        return
    cfg, env = config(name).algorithm, Multigoal()
    carry = carry_of(algorithm, cfg, env, 2)
    one = loop.iteration(algorithm, cfg, env, 2)
    after = jax.eval_shape(one, carry, jax.random.key(0), jnp.int32(0), jnp.int32(3))
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (carry, after)]
    assert kinds[0] == kinds[1]


def test_how_iterations_are_divided_does_not_matter():
    runs = [trainer() for _ in range(2)]
    for run, pieces in zip(runs, ((40,), (3, 1, 30, 6)), strict=True):
        for piece in pieces:
            run.advance(piece)
    left, right = map(described, runs)
    assert left == right
    assert left[1]["updates"] == 2 * (40 - 9)


def test_a_dispatch_goes_to_what_is_due_next():
    due = {"training.eval_every": 30, "training.checkpoint_every": 70, "training.steps": 75}
    one, seen = trainer(**due), []
    while one.env_steps < 75:
        one.advance()
        seen.append(one.env_steps)
    assert seen == [20, 30, 40, 60, 70, 76]


@pytest.mark.parametrize(("starts", "envs"), [(20, 2), (21, 2), (1, 1), (7, 4), (30, 4), (3, 8)])
def test_updates_are_as_many_as_on_the_host(starts, envs):
    cfg = config(**{"replay.learning_starts": starts, "training.envs": envs})
    one = DeviceTrainer(cfg, registry.get("sac"))
    for iterations in range(20):
        due = sum((i + 1) * envs >= starts for i in range(iterations))
        assert one._updates(iterations) == due * envs


def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 500)
    whole, written = trainer(), []
    for cut in (8, 40, 100):
        go(whole, cut)
        written.append(checkpoint.save(tmp_path, whole.env_steps, *whole.snapshot(), keep=3))
    go(whole, 160)
    for path in written:
        resumed = trainer()
        assert resumed.restore(checkpoint.load(path)) == []
        go(resumed, 160)
        ours, theirs = described(resumed), described(whole)
        assert ours == theirs
        assert resumed.interval() == trainer_rows(whole)


def trainer_rows(one):
    """``interval`` without starting a new one."""
    saved = one.learner.state, one._episodes, one._finished, one.learner._totals, one.learner._in_interval
    row = one.interval()
    one.learner.state, one._episodes, one._finished, one.learner._totals, one.learner._in_interval = saved
    return row


def test_without_the_data_a_run_begins_to_collect_anew(tmp_path):
    whole = trainer()
    go(whole, 60)
    checkpoint.save(tmp_path, 60, *whole.snapshot(experience=False), keep=1)
    resumed = trainer()
    resumed.restore(checkpoint.load(tmp_path / "000000060"))
    updates = resumed.updates
    resumed.advance(9)
    assert resumed.updates == updates == int(resumed.learner.state.updates)
    resumed.advance(2)
    assert resumed.updates == updates + 4 == int(resumed.learner.state.updates)
    assert resumed._added == 22


@pytest.mark.parametrize("made", [trainer, on_the_host])
def test_actions_that_are_kept_are_not_taken_for_those_of_later_transitions(made):
    """Without its data a run goes on numbering: what is kept for the old transitions is not theirs."""
    one, other = made("dipo"), made("dipo")
    go(one, 60)
    groups, meta = one.snapshot(experience=False)
    other.restore(checkpoint.Checkpoint(60, groups, meta))
    before = np.asarray(other.learner.state.memory.owner)
    assert 0 <= before.max() < 60
    go(other, 84)
    after = np.asarray(other.learner.state.memory.owner)
    assert (after != before).any()
    assert after[after != before].min() >= 60


def test_a_checkpoint_of_another_capacity_is_refused(tmp_path):
    one = trainer()
    go(one, 60)
    checkpoint.save(tmp_path, 60, *one.snapshot(), keep=1)
    with pytest.raises(FewstepError, match=r"holds transitions 10 to 60, replay\.capacity is 80"):
        trainer(**{"replay.capacity": 80}).restore(checkpoint.load(tmp_path / "000000060"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    one = trainer()
    one.advance(2)
    checkpoint.save(tmp_path, 4, *one.snapshot(), keep=1)
    other = trainer(env="toy/bandit", **{"training.device_env": "toy/bandit"})
    with pytest.raises(FewstepError, match="is of env 'toy/multigoal', the run's config says 'toy/bandit'"):
        other.restore(checkpoint.load(tmp_path / "000000004"))


@dataclass(frozen=True)
class Spoilt(Multigoal):
    """Its reward is not a number in the 20th step of an episode."""

    def step(self, state, action, key):
        made = super().step(state, jnp.zeros(2), key)
        return made._replace(reward=jnp.where(state.steps == 19, jnp.nan, made.reward))


def test_a_number_that_is_not_finite_ends_the_run_before_it_is_saved():
    one = trainer(**{"training.device_env": f"{__name__}:Spoilt"})
    one.advance(19)
    one.snapshot()
    with pytest.raises(NonFiniteError, match=r"Spoilt gave an observation or reward .* at step 40"):
        one.advance()
    with pytest.raises(NonFiniteError):
        one.snapshot()


@dataclass(frozen=True)
class BadStart(Multigoal):
    """Its episodes begin with what is no number."""

    def reset(self, key):
        state, obs = super().reset(key)
        return state, jnp.full_like(obs, jnp.nan)


def test_an_observation_of_a_reset_that_is_not_finite_ends_the_run():
    one = trainer(**{"training.device_env": f"{__name__}:BadStart"})
    with pytest.raises(NonFiniteError, match="gave an observation or reward"):
        one.advance()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"training.action_repeat": 2}, "training.action_repeat cannot be set with training.device_env"),
        ({"training.max_episode_steps": 9}, "training.max_episode_steps cannot be set"),
        ({"training.eval_env": "shared"}, "training.eval_env cannot be set"),
        ({"training.steps": 2**31}, r"training.steps must be below 2\*\*31"),
        ({"replay.learning_starts": 3 * 10**9}, r"replay.learning_starts must be below 2\*\*31"),
        ({"replay.n_step": 3}, "replay.n_step cannot be set with training.device_env"),
        ({"replay.reward": "std"}, "replay.reward cannot be set"),
        ({"replay.overlap": True}, "replay.overlap cannot be set"),
        ({"replay.dataset.path": "x"}, "replay.dataset cannot be set"),
        ({"training.device_env": "toy/bandit"}, "is for the environment toy/bandit, not toy/multigoal"),
    ],
)
def test_settings_that_the_device_does_not_have(setting, message):
    with pytest.raises(UsageError, match=message):
        config(**setting)


def test_the_task_must_be_the_same():
    with pytest.raises(UsageError, match="they must be the same task"):
        trainer(env="Pendulum-v1", **{"training.device_env": f"{__name__}:Spoilt"})


def test_other_ways_to_train_say_that_they_do_not_take_it():
    with pytest.raises(UsageError, match="with one seed"):
        Trainer(config(), registry.get("sac"))


def test_normalised_observations_are_those_of_the_batches():
    one = trainer(**{"replay.normalise_obs": True})
    one.advance(30)
    assert not same(one.learner.state.moments.mean, jnp.zeros(2))
