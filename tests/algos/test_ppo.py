"""PPO's update as a whole: what it takes from a rollout, what moves what, and a known answer."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.ppo import ALGORITHM, learner, losses, policy
from fewstep.algos.ppo import config as c
from fewstep.algos.ppo.advantages import gae
from fewstep.algos.ppo.normalise import running_returns
from fewstep.errors import UsageError
from fewstep.types import Rollout, Spec
from tests.algos.common import changed, program, same

TINY = changed(c.PPOConfig(), ALGORITHM.tiny | {"rollout.steps": 8, "rollout.minibatches": 4})
FAR = np.array([50.0, -3.0, 0.0], np.float32)


def state(cfg=TINY, seed=0):
    return learner.init(cfg, Spec(3, 2), jax.random.key(seed))


def rollout(steps=8, envs=3, seed=0):
    """Observations far from mean 0 and variance 1, actions beyond the box, both kinds of end."""
    rng = np.random.default_rng(seed)
    obs, nxt = (FAR + rng.normal(size=(2, steps, envs, 3)) * [10.0, 1.0, 0.1]).astype(np.float32)
    action = (1.5 * rng.normal(size=(steps, envs, 2))).astype(np.float32)
    reward = (100 * rng.normal(size=(steps, envs))).astype(np.float32)
    ends = rng.random((2, steps, envs)) < 0.2
    return Rollout(*map(jnp.asarray, (obs, action, reward, ends[0], ends[1], nxt)))


@partial(jax.jit, static_argnums=0)
def step(cfg, s, r):
    return learner.update(cfg, s, r)


# ------------------------------------------------------------------------------------- from steps to samples


def test_samples_are_the_equations_written_out():
    """Second update, so that the statistics before and after the rollout differ; every environment apart."""
    before, r = step(TINY, state(), rollout())[0], rollout(seed=1)
    after, rows = jax.jit(partial(learner.samples, TINY))(before, r)
    scaled = np.clip((r.obs - after.obs_moments.mean) / after.obs_moments.std, -10, 10)
    np.testing.assert_allclose(rows.obs.reshape(8, 3, 3), scaled, rtol=1e-4, atol=1e-5)
    old = np.clip((r.obs - before.obs_moments.mean) / before.obs_moments.std, -10, 10)
    net = before.networks.params
    for t, n in [(0, 0), (3, 1), (7, 2)]:
        row = t * 3 + n
        mean = net.actor.net(old[t, n])
        density = policy.log_density(r.action[t, n], mean, net.actor.log_std)
        np.testing.assert_allclose(rows.log_prob[row], density, rtol=1e-4)
        np.testing.assert_array_equal(rows.action[row], r.action[t, n])
    scaled_next = np.clip((r.next_obs - after.obs_moments.mean) / after.obs_moments.std, -10, 10)
    reward = np.clip(r.reward / after.return_moments.std, -10, 10)
    for n in range(3):
        value, nxt = (jax.vmap(net.value)(jnp.array(x[:, n])) for x in (scaled, scaled_next))
        expected = gae(reward[:, n], value, nxt, r.terminated[:, n], r.truncated[:, n], 0.99, 0.95)
        np.testing.assert_allclose(rows.advantage.reshape(8, 3)[:, n], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(rows.target, rows.value + rows.advantage, rtol=1e-6)


def test_the_statistics_are_of_all_rollouts():
    first, second = rollout(), rollout(seed=1)
    after = step(TINY, step(TINY, state(), first)[0], second)[0]
    seen = np.concatenate([np.asarray(r.obs, np.float64).reshape(-1, 3) for r in (first, second)])
    np.testing.assert_allclose(after.obs_moments.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after.obs_moments.var, seen.var(0), rtol=1e-4)
    returns = [
        running_returns(r.reward[:, n], (r.terminated | r.truncated)[:, n], 0.99)
        for r in (first, second)
        for n in range(3)
    ]
    np.testing.assert_allclose(after.return_moments.std, np.concatenate(returns).std(), rtol=1e-4)


@pytest.mark.parametrize("what", ["obs", "reward"])
def test_normalisation_can_be_left_out(what):
    cfg = changed(TINY, {f"normalise.{what}": False})
    before = state(cfg)
    after, rows = learner.samples(cfg, before, rollout())
    if what == "obs":
        assert same(after.obs_moments, before.obs_moments)
        np.testing.assert_array_equal(rows.obs.reshape(8, 3, 3), rollout().obs)
    else:
        assert same(after.return_moments, before.return_moments)
        assert np.abs(rows.target).max() > 100


def test_a_first_pass_over_everything_finds_the_policy_where_it_was():
    """The behaviour's densities are those of the acting policy: at the first gradient step all ratios are 1.

    With statistics that do not move between (the rollout has been seen before).
    """
    r = rollout()
    seen = learner.see(TINY, state(), r)
    fixed = replace(seen, obs_moments=replace(seen.obs_moments, count=jnp.float32(1e12)))
    cfg = changed(TINY, {"rollout.epochs": 1, "rollout.minibatches": 1})
    _, metrics = step(cfg, fixed, r)
    assert abs(float(metrics["actor/approx_kl"])) < 1e-6
    assert float(metrics["actor/clipped_share"]) == 0.0
    assert float(metrics["actor/loss"]) == pytest.approx(0.0, abs=1e-5)  # advantages have mean 0


def test_minibatches_must_divide_the_rollout():
    cfg = changed(TINY, {"rollout.minibatches": 7})
    with pytest.raises(UsageError, match=r"rollout.minibatches \(7\) must divide .* which is 24"):
        learner.update(cfg, state(cfg), rollout())


def test_every_epoch_shuffles_anew_and_uses_each_row_once():
    """Rows are told apart by their advantage; one gradient step per row says which came when."""
    rollouts = {"rollout.epochs": 3, "rollout.minibatches": 24}
    cfg = changed(TINY, rollouts | {"actor.normalise_advantages": False})
    s, rows = learner.samples(cfg, state(cfg), rollout())
    rows = rows._replace(advantage=jnp.arange(24.0) + 1.0)
    still = replace(cfg, optimiser=replace(cfg.optimiser, learning_rate=1e-30))
    _, seen = learner.fit(still, s.networks, rows, use_key(s, learner.Use.SHUFFLE), s.updates)
    actor = s.networks.params.actor
    ratio = jnp.exp(jax.vmap(actor.log_prob)(rows.obs, rows.action) - rows.log_prob)
    each = -jax.vmap(lambda q, a: losses.clipped_objective(q, a, 0.2))(ratio, rows.advantage)
    for epoch in range(3):
        np.testing.assert_allclose(np.sort(seen["actor/loss"][epoch]), np.sort(each), rtol=1e-3)
    assert not np.array_equal(seen["actor/loss"][0], seen["actor/loss"][1])


# ------------------------------------------------------------------------------------------ what moves what


def test_the_gradient_map():
    s, rows = learner.samples(TINY, state(), rollout())

    def size(tree):
        return float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(tree)))

    networks = s.networks.params
    of_policy = jax.grad(lambda n: losses.policy_loss(n.actor, TINY.actor, rows)[0])(networks)
    of_values = jax.grad(lambda n: losses.value_loss(n, TINY.critic, rows))(networks)
    assert size(of_policy.actor.net) > 0
    assert size(of_policy.actor.log_std) > 0
    assert size(of_policy.critic) == 0
    assert size(of_values.critic) > 0
    assert size(of_values.actor) == 0
    both = jax.grad(lambda n: losses.loss(n, TINY, rows)[0])(networks)
    np.testing.assert_allclose(
        both.critic.head.weight, 0.5 * of_values.critic.head.weight, rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(both.actor.log_std, of_policy.actor.log_std, rtol=1e-5)


def test_the_entropy_bonus_widens_the_policy():
    s, rows = learner.samples(TINY, state(), rollout())

    def slope(weight):
        cfg = replace(TINY.actor, entropy_weight=weight)
        return jax.grad(lambda a: losses.policy_loss(a, cfg, rows)[0])(s.networks.params.actor).log_std

    np.testing.assert_allclose(slope(0.3) - slope(0.0), -0.3, atol=1e-5)


def test_the_step_is_adams_behind_one_clip_of_both_gradients():
    """One minibatch, one epoch: the clip of the joint norm, and then a first Adam step, written out."""
    cfg = changed(TINY, {"rollout.epochs": 1, "rollout.minibatches": 1})
    r = rollout()
    s, rows = learner.samples(cfg, state(cfg), r)
    grads = jax.grad(losses.loss, has_aux=True)(s.networks.params, cfg, rows)[0]
    norm = float(np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(grads))))
    assert norm > 0.5
    after, metrics = step(cfg, state(cfg), r)
    np.testing.assert_allclose(metrics["optimiser/gradient_norm"], norm, rtol=1e-4)
    for old, new, g in zip(
        *map(jax.tree.leaves, (s.networks.params, after.networks.params, grads)), strict=True
    ):
        g = g * 0.5 / norm
        np.testing.assert_allclose(new - old, -3e-4 * g / (jnp.abs(g) + 1e-5), rtol=1e-2, atol=2e-7)


def test_the_learning_rate_falls_by_rollouts_not_by_gradient_steps():
    """Four rollouts are sixty-four steps of Adam; nothing moves from the fourth on."""
    cfg = changed(TINY, {"optimiser.decay_steps": 4})
    rates = []
    s = state(cfg)
    for _ in range(5):
        before = s
        s, metrics = step(cfg, s, rollout())
        rates.append(float(metrics["optimiser/learning_rate"]))
    np.testing.assert_allclose(rates, [3e-4, 2.25e-4, 1.5e-4, 0.75e-4, 0.0], rtol=1e-5)
    assert same(s.networks.params, before.networks.params)
    assert float(step(TINY, s, rollout())[1]["optimiser/learning_rate"]) == pytest.approx(3e-4)


OPTIONS = [
    ("actor.clip", 0.01),
    ("actor.entropy_weight", 0.1),
    ("actor.normalise_advantages", False),
    ("critic.clip", 1e-4),
    ("critic.weight", 2.0),
    ("optimiser.max_grad_norm", 0.01),
    ("normalise.obs", False),
    ("normalise.reward", False),
    ("normalise.obs_clip", 0.5),
    ("normalise.reward_clip", 0.1),
]


@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_every_option_changes_what_an_update_computes(name, value):
    plain, other = (
        program(learner.update, x, state(), rollout()) for x in (TINY, changed(TINY, {name: value}))
    )
    assert plain != other


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_every_option_changes_the_networks(name, value):
    cfg = changed(TINY, {name: value})
    assert not same(*(step(x, state(x), rollout())[0].networks for x in (TINY, cfg)))


# --------------------------------------------------------------------------------------------- acting


def test_actions_and_what_is_collected():
    s = step(TINY, state(), rollout())[0]
    p, obs, key = learner.policy(s), jnp.tile(jnp.array(FAR), (4000, 1)), jax.random.key(5)
    assert ALGORITHM.native(TINY) == ActionMode(noise_free=True)
    drawn = ALGORITHM.collect(TINY, p, obs, key)
    centre = p.actor.net((FAR - s.obs_moments.mean) / s.obs_moments.std)
    np.testing.assert_allclose(drawn.mean(0), centre, atol=0.05)
    np.testing.assert_allclose(drawn.std(0), jnp.exp(p.actor.log_std), rtol=0.05)
    assert float(jnp.abs(drawn).max()) > 2.0
    acted = ALGORITHM.act(TINY, p, obs, key, ActionMode())
    np.testing.assert_array_equal(acted, jnp.clip(drawn, -1, 1))
    native = ALGORITHM.act(TINY, p, obs, key, ActionMode(noise_free=True))
    np.testing.assert_allclose(native[0], jnp.clip(centre, -1, 1), rtol=1e-5)


def test_a_fresh_policy_is_a_standard_gaussian_around_almost_nothing():
    s = state()
    actor = s.networks.params.actor
    assert np.array_equal(actor.log_std, np.zeros(2))
    assert float(jnp.abs(jax.vmap(actor.net)(jax.random.normal(s.key, (50, 3)))).max()) < 0.05
    weight = np.asarray(actor.net.blocks[1][0].weight)
    np.testing.assert_allclose(weight.T @ weight, 2.0 * np.eye(16), atol=1e-5)


def test_acting_does_not_touch_the_statistics():
    p = learner.policy(step(TINY, state(), rollout())[0])
    kept = jax.tree.map(np.array, p.obs_moments)
    ALGORITHM.act(TINY, p, jnp.full((7, 3), 1e3), jax.random.key(0), ActionMode())
    assert same(p.obs_moments, kept)


# --------------------------------------------------------------------------------------------- a known answer


def test_it_climbs_to_the_best_action_of_every_state():
    """One-step episodes, reward -|a - f(s)|^2: the means find f in both states, and the spread shrinks."""
    rollouts = {"rollout.steps": 64, "rollout.epochs": 10, "rollout.minibatches": 4}
    cfg = changed(TINY, rollouts | {"optimiser.learning_rate": 3e-3})
    tops = jnp.array([[0.5, -0.3], [-0.6, 0.8]])

    def play(s, key):
        k_state, k_act = jax.random.split(key)
        which = jax.random.bernoulli(k_state, shape=(64 * 4,)).astype(int)
        obs = jnp.eye(3)[which]
        action = ALGORITHM.collect(cfg, learner.policy(s), obs, k_act)
        reward = -jnp.sum((action - tops[which]) ** 2, -1)
        end = jnp.ones_like(reward, bool)
        steps = Rollout(obs, action, reward, end, ~end, obs)
        return Rollout(*(field.reshape(64, 4, *field.shape[1:]) for field in steps))

    @jax.jit
    def learn(s):
        def one(s, key):
            return learner.update(cfg, s, play(s, key))

        return jax.lax.scan(one, s, jax.random.split(jax.random.key(1), 60))

    after, metrics = learn(state(cfg))
    obs = jnp.eye(3)[:2]
    found = ALGORITHM.act(cfg, learner.policy(after), obs, jax.random.key(0), ActionMode(noise_free=True))
    np.testing.assert_allclose(found, tops, atol=0.06)
    assert float(metrics["policy/log_std"][-1]) < -1.0
    assert float(metrics["actor/approx_kl"].max()) < 0.2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rollout.steps", 0),
        ("rollout.minibatches", 0),
        ("rollout.epochs", 0),
        ("actor.clip", 0.0),
        ("actor.entropy_weight", -1.0),
        ("critic.clip", 0.0),
        ("critic.weight", 0.0),
        ("optimiser.max_grad_norm", -1.0),
        ("normalise.obs_clip", 0.0),
        ("normalise.reward_clip", -1.0),
        ("discount", 1.5),
        ("gae_lambda", -0.1),
    ],
)
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        changed(TINY, {name: value})
