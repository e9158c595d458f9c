"""What every algorithm promises. A new one is tested by being registered."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import presets, settings
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode, Algorithm, mode_name, parse_mode
from fewstep.config import from_toml, known_settings, resolve, unused
from fewstep.errors import UsageError
from fewstep.training import compiled, policy_io, seeds, state_io
from fewstep.types import Rollout, Spec, Transition
from tests.deploy.helpers import surroundings
from tests.e2e.tiny_algorithm import ALGORITHM as TINY

SPEC = Spec(obs_size=5, act_size=2)
BATCH = 8
SMALL = {
    "actor.hidden": (16, 16),
    "critic.hidden": (16, 16),
    "critic.atoms": 11,
    "actor.time_features": 8,
    "actor.time_embed": 8,
    "proposals.policy": 2,
    "proposals.gaussian": 2,
    "proposals.block": 0,
    "rollout.steps": 4,
    "rollout.epochs": 2,
    "rollout.minibatches": 2,
}
"""Settings that make networks small; those an algorithm does not have are left out."""


def small_config(name, algorithm):
    known = known_settings(algorithm.config)
    return resolve(
        name, algorithm.config, "none", overrides={k: v for k, v in SMALL.items() if k in known}
    ).algorithm


def random_steps(*axes, seed=0):
    """Fields of steps with these leading axes, the ends of episodes among them."""
    rng = np.random.default_rng(seed)
    obs, nxt = rng.normal(size=(2, *axes, SPEC.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (*axes, SPEC.act_size)).astype(np.float32)
    reward = rng.normal(size=axes).astype(np.float32)
    terminated, truncated = rng.random((2, *axes)) < 0.3
    return {
        "obs": obs,
        "action": action,
        "reward": reward,
        "terminated": terminated,
        "truncated": truncated & ~terminated,
        "next_obs": nxt,
    }


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    algorithm: Algorithm
    cfg: object

    def init(self, seed=0):
        key = seeds.key(seed, seeds.Stream.ALGORITHM)
        return compiled.init(self.algorithm, self.cfg, SPEC)(key)

    def data(self, seed=0, rows=BATCH):
        """What one update eats: a batch, or a rollout of as many steps."""
        if self.algorithm.rollout is None:
            fields = random_steps(rows, seed=seed)
            del fields["truncated"]
            return Transition(**fields)
        length = self.algorithm.rollout(self.cfg)
        return Rollout(**random_steps(length, max(rows // length, 1), seed=seed))

    def batches(self, count, seed=0):
        """The data of ``count`` updates."""
        each = [self.data(seed + i) for i in range(count)]
        return type(each[0])(*(np.stack(fields) for fields in zip(*each, strict=True)))

    def updates(self, state, batches):
        totals = compiled.zero_totals(self.algorithm, self.cfg, state, self.data())
        return compiled.updates(self.algorithm, self.cfg)(state, totals, batches)

    def act(self, policy, obs, counter=0, mode=ActionMode()):  # noqa: B008  (frozen)
        key = seeds.key(0, seeds.Stream.ACT)
        return np.asarray(compiled.act(self.algorithm, self.cfg, mode)(policy, obs, key, np.uint32(counter)))


CASES = {name: registry.get(name) for name in registry.ALGORITHMS} | {"tiny": TINY}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request):
    algorithm = CASES[request.param]
    return Case(request.param, algorithm, small_config(request.param, algorithm))


@pytest.fixture(scope="module")
def learned(case):
    """Arrays of the state after three updates in one dispatch, and the metrics' sums."""
    state, totals = case.updates(case.init(), case.batches(3))
    return state_io.to_arrays(state), {name: float(value) for name, value in totals.items()}


def equal(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_the_record_is_complete(case):
    algorithm = case.algorithm
    assert algorithm.title
    assert "\n" not in algorithm.title
    assert algorithm.citation.lstrip().startswith("@")
    assert parse_mode(mode_name(algorithm.native(case.cfg)), ActionMode()) == algorithm.native(case.cfg)
    assert hash(algorithm.config()) == hash(algorithm.config())
    if case.name in registry.ALGORITHMS:
        assert registry.ALGORITHMS[case.name].title == algorithm.title
        assert algorithm.name == case.name


def test_config_has_a_default_for_everything_and_is_frozen(case):
    config = case.algorithm.config()
    assert dataclasses.fields(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, None)


def test_no_settings_at_all_give_the_algorithms_own_defaults(case):
    """A section that two algorithms share keeps the values each of them starts it with."""
    cls = case.algorithm.config
    assert settings.build(cls, {}) == cls()
    assert settings.build(cls, settings.flatten(cls())) == cls()


def test_every_preset_parses_and_builds(case):
    if case.name not in registry.ALGORITHMS:
        assert list(presets.names(case.name)) == ["default"]
    for preset in presets.names(case.name):
        for env in ("HalfCheetah-v4", "InvertedDoublePendulum-v4", "toy/bandit", "toy/multigoal"):
            resolve(case.name, case.algorithm.config, env, preset=preset)


def test_every_leaf_is_an_array_and_no_two_share_memory(case):
    state = case.init()
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves if not is_key(leaf) and leaf.size]
    assert len(set(pointers)) == len(pointers)
    assert state.updates.dtype == jnp.int32
    assert int(state.updates) == 0


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_init_depends_on_the_key_alone(case):
    first, second, other = (state_io.to_arrays(case.init(seed)) for seed in (0, 0, 1))
    assert equal(first, second)
    assert not equal(first, other)


def test_updates_are_deterministic_and_count_themselves(case, learned):
    arrays, _ = learned
    again, _ = case.updates(case.init(), case.batches(3))
    assert equal(state_io.to_arrays(again), arrays)
    assert int(again.updates) == 3
    before = state_io.to_arrays(case.init())
    changed = [name for name in arrays if not np.array_equal(arrays[name], before[name])]
    assert any("updates" in name for name in changed)
    assert len(changed) > 1
    assert "key" not in changed


def test_updates_keep_shapes_and_types(case, learned):
    arrays, _ = learned
    for name, before in state_io.to_arrays(case.init()).items():
        assert arrays[name].shape == before.shape, name
        assert arrays[name].dtype == before.dtype, name
    assert state_io.first_non_finite(arrays) is None


def test_metrics_are_finite_named_scalars(case, learned):
    _, totals = learned
    assert totals
    for name, value in totals.items():
        group, slash, quantity = name.partition("/")
        assert group, name
        assert slash, name
        assert quantity, name
        assert np.isfinite(value), name


def test_updates_in_one_dispatch_equal_updates_one_by_one(case, learned):
    """To float32 accuracy: the compiler may order sums differently in the two programs."""
    arrays, totals = learned
    state, each = case.init(), case.batches(3)
    sums = dict.fromkeys(totals, 0.0)
    for i in range(3):
        state, metrics = case.updates(state, type(each)(*(field[i : i + 1] for field in each)))
        for name in sums:
            sums[name] += float(metrics[name])
    for name, array in state_io.to_arrays(state).items():
        np.testing.assert_allclose(array, arrays[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for name, total in totals.items():
        assert sums[name] == pytest.approx(total, rel=1e-3, abs=1e-3), name


def test_the_batch_decides_the_update(case, learned):
    arrays, _ = learned
    other, _ = case.updates(case.init(), case.batches(3, seed=100))
    assert not equal(state_io.to_arrays(other), arrays)


@pytest.mark.parametrize("mode", ["sample", "mode", "native", "best-of-3"])
def test_actions_are_in_the_box_and_follow_the_key(case, mode):
    policy = case.algorithm.policy(case.init())
    if mode == "best-of-3" and not case.algorithm.ranks:
        with pytest.raises(UsageError, match="no best-of-3; use native, sample or mode"):
            case.algorithm.mode(case.cfg, mode)
        return
    parsed = case.algorithm.mode(case.cfg, mode)
    obs = 3.0 * np.random.default_rng(0).normal(size=(7, SPEC.obs_size)).astype(np.float32)
    first, again, other = (case.act(policy, obs, counter, parsed) for counter in (0, 0, 1))
    assert first.shape == (7, SPEC.act_size)
    assert first.dtype == np.float32
    assert (np.abs(first) <= 1.0).all()
    assert np.array_equal(first, again)
    if parsed.noise_free:
        assert np.array_equal(first, other)
        rows = np.concatenate([case.act(policy, obs[i : i + 1], 0, parsed) for i in range(7)])
        np.testing.assert_allclose(rows, first, rtol=1e-5, atol=1e-6)
    else:
        assert not np.array_equal(first, other)
        assert len(np.unique(case.act(policy, obs[[0] * 7], 0, parsed), axis=0)) > 1


def test_what_is_collected_is_the_behaviour_before_the_box(case):
    """A collector may leave the box; clipped to it, it is the same draw that ``act`` makes."""
    policy, key = case.algorithm.policy(case.init()), seeds.key(0, seeds.Stream.ACT)
    obs = 3.0 * np.random.default_rng(0).normal(size=(50, SPEC.obs_size)).astype(np.float32)
    drawn = np.asarray(compiled.collect(case.algorithm, case.cfg)(policy, obs, key, np.uint32(3)))
    assert np.isfinite(drawn).all()
    acted = case.act(policy, obs, 3, case.algorithm.behaviour(case.cfg))
    np.testing.assert_allclose(np.clip(drawn, -1, 1), acted, rtol=1e-6, atol=1e-7)
    if case.algorithm.collect is None:
        assert np.array_equal(drawn, acted)


def test_settings_of_the_replay_buffer_are_settings_of_those_who_replay(case):
    without = unused(case.algorithm.config)
    assert bool(without) == (case.algorithm.rollout is not None)
    for name in without:
        with pytest.raises(UsageError, match=f"{name} decides nothing for this algorithm: .*rollout"):
            resolve(case.name, case.algorithm.config, "none", overrides={name: 1})
    text = resolve(case.name, case.algorithm.config, "none").to_toml()
    for name in ("learning_starts", "batch_size", "updates_per_step", "replay_capacity"):
        assert (f"\n{name} = " in text) == (not without), name
    again = from_toml(text, lambda name: case.algorithm.config)
    assert again == resolve(case.name, case.algorithm.config, "none")


def test_the_policy_is_smaller_than_the_state(case):
    state = case.init()
    policy = case.algorithm.policy(state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(policy))
    size = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in (("p", policy), ("s", state))
    }
    assert size["p"] < size["s"]


def test_the_state_survives_the_disk_and_learns_on_alike(case, learned):
    arrays, _ = learned
    template = jax.eval_shape(lambda key: case.algorithm.init(case.cfg, SPEC, key), seeds.key(0, 0))
    back = state_io.from_arrays(template, arrays, "test")
    assert jax.tree.structure(back) == jax.tree.structure(case.init())
    assert equal(state_io.to_arrays(back), arrays)
    direct, _ = case.updates(state_io.from_arrays(case.init(), arrays, "test"), case.batches(1, seed=9))
    loaded, _ = case.updates(back, case.batches(1, seed=9))
    assert equal(state_io.to_arrays(direct), state_io.to_arrays(loaded))


def test_the_policy_survives_the_disk_and_acts_alike(case, tmp_path, monkeypatch):
    name = case.name if case.name in registry.ALGORITHMS else "tests.e2e.tiny_algorithm:ALGORITHM"
    policy = case.algorithm.policy(case.init())
    saved = policy_io.SavedPolicy(case.algorithm, case.cfg, surroundings(SPEC), policy, 10, 3)
    policy_io.save(tmp_path / "policy", saved, name)
    loaded = policy_io.load(tmp_path / "policy")
    assert (loaded.cfg, loaded.info, loaded.spec, loaded.env_steps, loaded.updates) == (
        case.cfg,
        saved.info,
        SPEC,
        10,
        3,
    )
    obs = np.ones((2, SPEC.obs_size), np.float32)
    assert np.array_equal(case.act(loaded.policy, obs), case.act(policy, obs))


def test_a_batch_of_one_learns(case):
    cfg, algorithm = case.cfg, case.algorithm
    if algorithm.rollout is not None:
        single = {"rollout.steps": 1, "rollout.minibatches": 1}
        cfg = settings.build(algorithm.config, settings.flatten(cfg) | single)
    data = dataclasses.replace(case, cfg=cfg).data(rows=1)
    state, metrics = jax.jit(lambda s, b: algorithm.update(cfg, s, b))(case.init(), data)
    assert int(state.updates) == 1
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    assert state_io.first_non_finite(state_io.to_arrays(state)) is None


def test_smallest_sizes_work(case):
    spec = Spec(1, 1)
    state = jax.jit(lambda key: case.algorithm.init(case.cfg, spec, key))(seeds.key(0, 0))
    policy = case.algorithm.policy(state)
    act = jax.jit(lambda p, o, k: case.algorithm.act(case.cfg, p, o, k, ActionMode()))
    assert act(policy, jnp.zeros((1, 1)), seeds.key(0, 1)).shape == (1, 1)
