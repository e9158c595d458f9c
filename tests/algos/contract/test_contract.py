"""What every algorithm promises. A new one is tested by being registered.

Of each: the record, its settings and presets, shapes (traced, not compiled), and one short learning step.
What the library makes of a record (dispatches, modes, files) is the same code for all and is tested on a few.
"""

import dataclasses
import operator
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fewstep
from fewstep.algos import numerics, registry
from fewstep.algos.contract import ActionMode, Algorithm, mode_name, parse_mode
from fewstep.config import from_toml, presets, resolve, settings
from fewstep.errors import UsageError
from fewstep.training import acting, compiled, demands, saved_policy, seeds, state_io
from fewstep.types import Rollout, Spec, Transition
from tests.deploy.helpers import surroundings
from tests.e2e.tiny_algorithm import ALGORITHM as TINY
from tests.few import few, slow

SPEC = Spec(obs_size=5, act_size=2)
BATCH = 8


def random_steps(*axes, seed=0, spec=SPEC):
    """Fields of steps with these leading axes, the ends of episodes among them."""
    rng = np.random.default_rng(seed)
    obs, nxt = rng.normal(size=(2, *axes, spec.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (*axes, spec.act_size)).astype(np.float32)
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

    @staticmethod
    def of(name, **more):
        """The algorithm with the settings that make it tiny, and more of them."""
        algorithm = TINY if name == "tiny" else registry.get(name)
        small = resolve(name, algorithm.config, "none", overrides=dict(algorithm.tiny) | more)
        return Case(name, algorithm, small.algorithm)

    def init(self, seed=0):
        key = seeds.key(seed, seeds.Stream.ALGORITHM)
        return compiled.init(self.algorithm, self.cfg, SPEC)(key)

    def data(self, seed=0, rows=BATCH, spec=SPEC):
        """What one update eats: a batch, or a rollout of as many steps."""
        if self.algorithm.rollout is None:
            fields = random_steps(rows, seed=seed, spec=spec)
            del fields["truncated"]
            number = np.arange(rows, dtype=np.int32) if self.algorithm.numbered else None
            return Transition(**fields, number=number)
        length = self.algorithm.rollout(self.cfg)
        return Rollout(**random_steps(length, max(rows // length, 1), seed=seed, spec=spec))

    def batches(self, count, seed=0):
        """The data of ``count`` updates."""
        each = [self.data(seed + i) for i in range(count)]
        return jax.tree.map(lambda *fields: np.stack(fields), *each)

    def updates(self, state, batches):
        totals = compiled.zero_totals(self.algorithm, self.cfg, state, self.data())
        return jitted(self.algorithm, self.cfg)(state, totals, batches)

    def act(self, policy, obs, counter=0, mode=ActionMode()):  # noqa: B008  (frozen)
        key = seeds.key(0, seeds.Stream.ACT)
        return acting.bind(self.algorithm, self.cfg, SPEC, mode, policy, key)(obs, counter)


@cache
def jitted(algorithm, cfg):
    return numerics.jit(compiled.updates(algorithm, cfg))


@pytest.fixture(scope="module", params=[*registry.BUILT_IN, "tiny"])
def case(request):
    return Case.of(request.param)


FEW = {
    "ppo": {},
    "sac": {"actor.delay": 2, "actor.average": 3, "replay.normalise_obs": True},
    "tiny": {},
}
"""One of each kind of code around an algorithm: rollouts, a delayed and averaged actor on normalised
observations, a user's own."""


@pytest.fixture(scope="module", params=[*FEW, *slow("smfp")])
def some(request):
    return Case.of(request.param, **FEW.get(request.param, {}))


@pytest.fixture(scope="module")
def learned(some):
    """Arrays of the state after three updates in one dispatch, and the metrics' sums."""
    state, totals = some.updates(some.init(), some.batches(3))
    return state_io.to_arrays(state), {name: float(value) for name, value in totals.items()}


def equal(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


# -------------------------------------------------------------------------------- every algorithm


def test_the_record_is_complete(case):
    algorithm = case.algorithm
    assert algorithm.title
    assert "\n" not in algorithm.title
    assert algorithm.citation.lstrip().startswith("@")
    assert parse_mode(mode_name(algorithm.native(case.cfg)), ActionMode()) == algorithm.native(case.cfg)
    assert hash(algorithm.config()) == hash(algorithm.config())
    assert algorithm.name == case.name


def test_it_is_registered_once_and_has_a_class(case):
    if case.name not in registry.BUILT_IN:
        with pytest.raises(UsageError, match="unknown algorithm"):
            registry.get(case.name)
        return
    entry = registry.entries()[case.name]
    assert registry.get(case.name) is case.algorithm is registry.get(entry.record)
    assert entry.model in dir(fewstep)
    assert getattr(fewstep, entry.model).algo == case.name


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
    if case.name not in registry.BUILT_IN:
        assert list(presets.names(case.name)) == ["default"]
    for preset in presets.names(case.name):
        for env in ("HalfCheetah-v4", "InvertedDoublePendulum-v4", "toy/bandit", "toy/multigoal"):
            resolve(case.name, case.algorithm.config, env, preset=preset)


def test_the_functions_keep_what_a_users_own_must_keep(some):
    """Shapes and types, names of metrics, purity, finite actions: what a run asks of a plug-in."""
    data = jax.tree.map(lambda field: jax.ShapeDtypeStruct(field.shape, field.dtype), some.data())
    demands.check(some.algorithm, some.cfg, SPEC, data)


def test_settings_of_the_replay_buffer_are_settings_of_those_who_replay(case):
    config = resolve(case.name, case.algorithm.config, "none")
    assert (config.replay is None) == (case.algorithm.rollout is not None)
    assert ("[replay]" in config.to_toml()) == (case.algorithm.rollout is None)
    assert from_toml(config.to_toml(), lambda name: case.algorithm.config) == config


def shapes(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


@few(("spec", "rows"), [(SPEC, BATCH), (Spec(1, 1), 1)], keep=1, ids=["usual", "smallest"])
def test_shapes_without_compiling_anything(case, spec, rows):
    """Of the state, of an update, of the policy and of its actions; also where everything has size 1."""
    algorithm, cfg = case.algorithm, case.cfg
    if algorithm.rollout is not None and rows == 1:
        cfg = settings.build(
            algorithm.config, settings.flatten(cfg) | {"rollout.steps": 1, "rollout.minibatches": 1}
        )
    one = dataclasses.replace(case, cfg=cfg)
    key = seeds.key(0, seeds.Stream.ALGORITHM)
    state = jax.eval_shape(lambda key: algorithm.init(cfg, spec, key), key)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    assert shapes(state.updates) == [((), jnp.int32)]
    assert shapes(state.key) == shapes(key)
    after, metrics = jax.eval_shape(
        lambda s, d: algorithm.update(cfg, s, d), state, one.data(rows=rows, spec=spec)
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert shapes(after) == shapes(state)
    assert metrics
    for name, value in metrics.items():
        group, slash, quantity = name.partition("/")
        assert group, name
        assert slash, name
        assert quantity, name
        assert value.shape == (), name
        assert jnp.issubdtype(value.dtype, jnp.floating), name
    policy = jax.eval_shape(algorithm.policy, state)
    assert size_of(policy) < size_of(state)
    noise, obs = (
        jax.ShapeDtypeStruct(algorithm.noise(cfg, policy), jnp.float32),
        jnp.zeros((rows, spec.obs_size)),
    )
    action = jax.eval_shape(lambda p, o, e: algorithm.draw(cfg, p, o, e), policy, obs[0], noise)
    assert shapes(action) == [((spec.act_size,), jnp.float32)]
    modes = [ActionMode(), ActionMode(noise_free=True), algorithm.native(cfg), algorithm.behaviour(cfg)]
    if algorithm.value is not None:
        value = algorithm.value
        q = jax.eval_shape(lambda p, o, a: value(cfg, p)(o, a), policy, obs[0], action)
        assert shapes(q) == [((), jnp.float32)]
        modes.append(ActionMode(candidates=3))
    acts = [lambda p, o, k, mode=mode: algorithm.act(cfg, p, o, k, mode) for mode in modes]
    for act in (*acts, lambda p, o, k: algorithm.collect(cfg, p, o, k)):
        assert shapes(jax.eval_shape(act, policy, obs, key)) == [((rows, spec.act_size), jnp.float32)]


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


FIRST = ("tiny", "sac", "ppo", "smfp", "mfpo")


@few("name", [*FIRST, *(name for name in registry.BUILT_IN if name not in FIRST)], keep=len(FIRST))
def test_one_short_learning_step(name):
    """Finite, counted, decided by key and batch alone; state and policy share no memory."""
    case = Case.of(name)
    state = case.init()
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves if not is_key(leaf) and leaf.size]
    assert len(set(pointers)) == len(pointers)
    before, again, other = (state_io.to_arrays(case.init(seed)) for seed in (0, 0, 1))
    assert equal(before, again)
    assert not equal(before, other)
    assert int(state.updates) == 0

    update = jax.jit(lambda s, d: case.algorithm.update(case.cfg, s, d))
    after, metrics = update(state, case.data())
    arrays = state_io.to_arrays(after)
    assert int(after.updates) == 1
    assert state_io.first_non_finite(arrays) is None
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    moved = {name for name in arrays if not np.array_equal(arrays[name], before[name])}
    assert "key" not in moved
    assert len(moved) > 1
    assert equal(state_io.to_arrays(update(state, case.data())[0]), arrays)
    assert not equal(state_io.to_arrays(update(state, case.data(seed=100))[0]), arrays)


def test_an_action_is_a_function_of_state_and_noise(case):
    policy = case.algorithm.policy(case.init())
    shape = case.algorithm.noise(case.cfg, policy)
    # Of several noises: a sampler that clips may give the same corner of the box for one of them.
    noise = jax.random.normal(jax.random.key(1), (8, *shape))
    obs = jnp.full(SPEC.obs_size, 0.3)
    draw = jax.jit(lambda s, each: jax.vmap(lambda e: case.algorithm.draw(case.cfg, policy, s, e))(each))
    action = draw(obs, noise)
    assert np.isfinite(action).all()
    assert np.array_equal(action, draw(obs, noise))
    assert not np.array_equal(action, draw(-obs, noise))
    assert np.array_equal(action, draw(obs, -noise)) == (shape == (0,))


# -------------------------------------------------------------------------------- some of them


def test_updates_are_deterministic_and_count_themselves(some, learned):
    arrays, _ = learned
    again, _ = some.updates(some.init(), some.batches(3))
    assert equal(state_io.to_arrays(again), arrays)
    assert int(again.updates) == 3
    before = state_io.to_arrays(some.init())
    changed = [name for name in arrays if not np.array_equal(arrays[name], before[name])]
    assert any("updates" in name for name in changed)
    assert len(changed) > 1
    assert "key" not in changed


def test_updates_in_one_dispatch_equal_updates_one_by_one(some, learned):
    """To float32 accuracy: the compiler may order sums differently in the two programs."""
    arrays, totals = learned
    state, each = some.init(), some.batches(3)
    sums = dict.fromkeys(totals, 0.0)
    for i in range(3):
        state, metrics = some.updates(state, jax.tree.map(operator.itemgetter(slice(i, i + 1)), each))
        for name in sums:
            sums[name] += float(metrics[name])
    for name, array in state_io.to_arrays(state).items():
        np.testing.assert_allclose(array, arrays[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for name, total in totals.items():
        assert sums[name] == pytest.approx(total, rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("mode", ["sample", "mode", "native", "best-of-3"])
def test_actions_are_in_the_box_and_follow_the_key(some, mode):
    policy = some.algorithm.policy(some.init())
    if mode == "best-of-3" and some.algorithm.value is None:
        with pytest.raises(UsageError, match="no best-of-3; use native, sample or mode"):
            some.algorithm.mode(some.cfg, mode)
        return
    parsed = some.algorithm.mode(some.cfg, mode)
    obs = 3.0 * np.random.default_rng(0).normal(size=(7, SPEC.obs_size)).astype(np.float32)
    first, again, other = (some.act(policy, obs, counter, parsed) for counter in (0, 0, 1))
    assert first.shape == (7, SPEC.act_size)
    assert first.dtype == np.float32
    assert (np.abs(first) <= 1.0).all()
    assert np.array_equal(first, again)
    if parsed.noise_free:
        assert np.array_equal(first, other)
        rows = np.concatenate([some.act(policy, obs[i : i + 1], 0, parsed) for i in range(7)])
        np.testing.assert_allclose(rows, first, rtol=1e-5, atol=1e-6)
    else:
        assert not np.array_equal(first, other)
        assert len(np.unique(some.act(policy, obs[[0] * 7], 0, parsed), axis=0)) > 1


def test_what_is_collected_is_the_behaviour_before_the_box(some):
    """A collector may leave the box; clipped to it, it is the same draw that ``act`` makes."""
    policy, key = some.algorithm.policy(some.init()), seeds.key(0, seeds.Stream.ACT)
    obs = 3.0 * np.random.default_rng(0).normal(size=(50, SPEC.obs_size)).astype(np.float32)
    drawn = acting.bind(some.algorithm, some.cfg, SPEC, None, policy, key)(obs, 3)
    assert np.isfinite(drawn).all()
    acted = some.act(policy, obs, 3, some.algorithm.behaviour(some.cfg))
    np.testing.assert_allclose(np.clip(drawn, -1, 1), acted, rtol=1e-6, atol=1e-7)


def test_the_state_survives_the_disk_and_learns_on_alike(some, learned):
    arrays, _ = learned
    template = jax.eval_shape(lambda key: some.algorithm.init(some.cfg, SPEC, key), seeds.key(0, 0))
    back = state_io.from_arrays(template, arrays, "test")
    assert jax.tree.structure(back) == jax.tree.structure(some.init())
    assert equal(state_io.to_arrays(back), arrays)
    direct, _ = some.updates(state_io.from_arrays(some.init(), arrays, "test"), some.batches(1, seed=9))
    loaded, _ = some.updates(back, some.batches(1, seed=9))
    assert equal(state_io.to_arrays(direct), state_io.to_arrays(loaded))


def test_the_policy_survives_the_disk_and_acts_alike(some, tmp_path, monkeypatch):
    name = some.name if some.name in registry.BUILT_IN else "tests.e2e.tiny_algorithm:ALGORITHM"
    policy = some.algorithm.policy(some.init())
    saved = saved_policy.SavedPolicy(some.algorithm, some.cfg, surroundings(SPEC), policy, 10, 3)
    saved_policy.save(tmp_path / "policy", saved, name)
    loaded = saved_policy.load(tmp_path / "policy")
    assert (loaded.cfg, loaded.info, loaded.spec, loaded.env_steps, loaded.updates) == (
        some.cfg,
        saved.info,
        SPEC,
        10,
        3,
    )
    obs = np.ones((2, SPEC.obs_size), np.float32)
    assert np.array_equal(some.act(loaded.policy, obs), some.act(policy, obs))


def test_a_batch_of_one_learns(some):
    cfg, algorithm = some.cfg, some.algorithm
    if algorithm.rollout is not None:
        single = {"rollout.steps": 1, "rollout.minibatches": 1}
        cfg = settings.build(algorithm.config, settings.flatten(cfg) | single)
    data = dataclasses.replace(some, cfg=cfg).data(rows=1)
    state, metrics = jax.jit(lambda s, b: algorithm.update(cfg, s, b))(some.init(), data)
    assert int(state.updates) == 1
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    assert state_io.first_non_finite(state_io.to_arrays(state)) is None


def test_smallest_sizes_work(some):
    spec = Spec(1, 1)
    state = jax.jit(lambda key: some.algorithm.init(some.cfg, spec, key))(seeds.key(0, 0))
    policy = some.algorithm.policy(state)
    act = jax.jit(lambda p, o, k: some.algorithm.act(some.cfg, p, o, k, ActionMode()))
    assert act(policy, jnp.zeros((1, 1)), seeds.key(0, 1)).shape == (1, 1)
