"""SMFP: how it acts, what flows where, its weights, statistics and options, and targets known exactly."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import temperature
from fewstep.algos.contract import ActionMode
from fewstep.algos.smfp import ALGORITHM, learner, losses, policy, targets
from fewstep.algos.smfp import config as c
from fewstep.algos.smfp.network import PolicyNet
from fewstep.algos.twins import crossq_loss, q_value
from fewstep.critics.crossq import joint_values
from fewstep.errors import UsageError
from fewstep.flows import semi_implicit
from fewstep.types import Spec, Transition

SPEC = Spec(3, 2)
TINY = c.SMFPConfig(
    actor=c.ActorConfig(hidden=(16, 16), delay=1, candidates=4, evaluation_candidates=3),
    critic=c.CriticConfig(hidden=(16, 16)),
    mirror=c.MirrorConfig(candidates=3),
    entropy=c.EntropyConfig(components=3),
)
SOFT = replace(TINY, entropy=replace(TINY.entropy, kind="semi_implicit", soft_backup=True))
GUESSED = replace(SOFT, entropy=replace(SOFT.entropy, proposal="learned", components=2))
LAYERNORM = replace(TINY, critic=replace(TINY.critic, kind="layernorm"))


def batch(size=16, spec=SPEC, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    fields = (
        draw(size, spec.obs_size),
        np.tanh(draw(size, spec.act_size)),
        draw(size),
        rng.random(size) < 0.2,
        draw(size, spec.obs_size),
    )
    return Transition(*map(jnp.asarray, fields))


def state(cfg=TINY, spec=SPEC, seed=0):
    return learner.init(cfg, spec, jax.random.key(seed))


def step(cfg):
    """One update, operation by operation: compiling it whole for every option would take minutes."""
    return partial(learner.update, cfg)


@cache
def updated(cfg, count=1, whole=False):
    """The state after ``count`` updates on different batches, and the last metrics.

    ``whole`` compiles the update: quicker where shapes differ from those of the other tests.
    """
    s, metrics = state(cfg), {}
    update = jax.jit(step(cfg)) if whole else step(cfg)
    for i in range(count):
        s, metrics = update(s, batch(seed=i))
    return s, metrics


def changed(cfg, changes):
    for section, fields in changes.items():
        cfg = replace(cfg, **{section: replace(getattr(cfg, section), **fields)})
    return cfg


def moved(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def close(a, b, rtol=1e-5, atol=1e-6):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def q_of(s):
    return q_value("min", s.critics)


# ---------------------------------------------------------------------------------------------------- acting


def count_evaluations(monkeypatch, run):
    """How many times the network is evaluated, a vmapped call counting once for each row it maps over."""
    calls = []
    plain = PolicyNet.__call__

    def counted(self, s, x, b, t):
        # Called back once per evaluation when the program runs, however it is batched.
        jax.debug.callback(lambda x: calls.append(x.shape), x)
        return plain(self, s, x, b, t)

    monkeypatch.setattr(PolicyNet, "__call__", counted)
    jax.block_until_ready(run())
    jax.effects_barrier()
    return len(calls)


@pytest.mark.parametrize(
    ("mode", "expected"), [(ActionMode(), 5), (ActionMode(4), 20), (ActionMode(1, True), 5)]
)
def test_an_action_costs_one_network_evaluation(monkeypatch, mode, expected):
    p, obs = learner.policy(state()), batch(5).obs
    run = lambda: policy.act(TINY, p, obs, jax.random.key(0), mode)  # noqa: E731
    assert count_evaluations(monkeypatch, run) == expected


def test_a_draw_is_mean_plus_sigma_times_noise_cut_at_the_box():
    s, obs = state(), jnp.ones(3)
    noise = jnp.array([[0.3, -0.8], [40.0, 0.5]])
    drawn = policy.draw(TINY, s.actor, obs, noise)
    part = policy.component(TINY, s.actor, obs, noise[0])
    np.testing.assert_allclose(drawn.z, part.mean + jnp.exp(part.log_std) * noise[1], rtol=1e-6)
    assert float(drawn.action[0]) == 1.0
    assert float(drawn.action[1]) == float(drawn.z[1])


def test_sigma_depends_on_state_and_noise_and_stays_in_its_range():
    s = updated(TINY, 3)[0]
    log_std = lambda o, e: policy.component(TINY, s.actor, o, e).log_std  # noqa: E731
    one = log_std(jnp.ones(3), jnp.ones(2))
    assert moved(one, log_std(-jnp.ones(3), jnp.ones(2)))
    assert moved(one, log_std(jnp.ones(3), -jnp.ones(2)))
    far = log_std(1e4 * jnp.ones(3), jnp.ones(2))
    assert bool(jnp.all((far >= -10.0) & (far <= 0.5)))
    np.testing.assert_allclose(
        policy.component(TINY, state().actor, jnp.ones(3), jnp.ones(2)).log_std, -3.0, atol=0.4
    )


def test_the_policy_depends_on_its_noise_from_the_start_unless_the_head_is_zero():
    def spread(cfg):
        e = jax.random.normal(jax.random.key(0), (200, 2))
        actor = state(cfg).actor
        return float(jax.vmap(lambda e: policy.component(cfg, actor, jnp.ones(3), e).mean)(e).std())

    assert 1e-3 < spread(TINY) < 0.2
    assert spread(changed(TINY, {"actor": {"head_scale": 0.0}})) == 0.0
    assert spread(changed(TINY, {"actor": {"output": "residual"}})) > 0.8


def test_the_best_candidate_is_the_one_with_the_highest_value():
    s, obs = updated(TINY, 3)[0], jnp.ones(3)
    found = policy.draws(TINY, s.actor, obs, jax.random.normal(jax.random.key(0), (6, 2, 2)))
    values = [float(q_of(s)(obs, a)) for a in found.action]
    chosen = policy.best(q_of(s), obs, found)
    assert float(q_of(s)(obs, chosen.action)) == pytest.approx(max(values), rel=1e-6)
    i = int(np.argmax(values))
    np.testing.assert_array_equal(chosen.component.mean, found.component.mean[i])


@pytest.mark.parametrize(("behaviour", "target"), [(1, 1), (2, 1), (8, 4), (9, 4)])
def test_the_target_takes_half_as_many_candidates_as_the_behaviour(behaviour, target):
    cfg = changed(TINY, {"actor": {"candidates": behaviour}})
    assert cfg.target_candidates == target
    assert ALGORITHM.behaviour(cfg) == ActionMode(candidates=behaviour)
    assert ALGORITHM.native(cfg) == ActionMode(candidates=3)


# --------------------------------------------------------------------------------------------------- critics


def test_selection_never_touches_the_statistics():
    """After one update they have seen one batch: the joint one, whatever was scored before and after it."""
    s, after = state(), updated(TINY)[0]
    assert [int(x.batches) for critic in after.critics for x in critic.stats] == [1] * 6
    noise = jax.random.normal(learner.use_key(s, learner.Use.NEXT_ACTION), (16, 2, 2, 2))
    b = batch(seed=0)
    nxt = jax.vmap(lambda o, e: targets.next_action(TINY, s.actor, q_of(s), o, e))(b.next_obs, noise)
    expected = [joint_values(critic, b.obs, b.action, b.next_obs, nxt.action)[2] for critic in s.critics]
    close([critic.stats for critic in after.critics], expected)


@pytest.mark.parametrize(
    "cfg", [TINY, SOFT, GUESSED, LAYERNORM], ids=["crossq", "soft", "guessed", "layernorm"]
)
def test_the_critic_target_is_the_bellman_backup(cfg):
    """Written out by hand for every row, from the draws that the update makes."""
    s, b = updated(cfg, 2)[0], batch(seed=7)
    noise = jax.random.normal(learner.use_key(s, learner.Use.NEXT_ACTION), (16, cfg.target_candidates, 2, 2))
    q = q_value(cfg.critic.twin, s.judges)
    nxt = jax.vmap(lambda o, e: targets.next_action(cfg, s.actor, q, o, e))(b.next_obs, noise)
    bonus = np.zeros(16)
    if cfg.entropy.soft_backup:
        keys = jax.random.split(learner.use_key(s, learner.Use.NEXT_COMPONENTS), 16)
        log_q = jax.vmap(lambda o, n, k: targets.log_density(cfg, s.actor, s.proposal, o, n, k))(
            b.next_obs, nxt, keys
        )
        bonus = -0.2 * np.asarray(log_q)
    if cfg.critic.kind == "crossq":
        each = [joint_values(critic, b.obs, b.action, b.next_obs, nxt.action) for critic in s.critics]
        now, value = np.stack([x[0] for x in each]), np.minimum(each[0][1], each[1][1])
    else:
        now = np.stack([jax.vmap(critic)(b.obs, b.action) for critic in s.critics])
        value = np.minimum(*[jax.vmap(critic)(b.next_obs, nxt.action) for critic in s.target_critics])
    target = b.reward + 0.99 * (1.0 - b.terminated) * (value + bonus)
    _, metrics = step(cfg)(s, b)
    np.testing.assert_allclose(metrics["critic/loss"], 0.5 * ((now - target) ** 2).mean(1).sum(), rtol=2e-3)
    np.testing.assert_allclose(metrics["critic/q_mean"], now.mean(), rtol=1e-3, atol=1e-4)


def test_a_soft_backup_pays_for_entropy():
    s, nxt_obs = updated(SOFT, 2)[0], jnp.ones(3)
    drawn = policy.draw(SOFT, s.actor, nxt_obs, jax.random.normal(jax.random.key(0), (2, 2)))
    keys = jax.random.split(jax.random.key(1), 200)
    mixed = jax.vmap(lambda k: targets.log_density(SOFT, s.actor, s.proposal, nxt_obs, drawn, k))(keys)
    alone = targets.log_density(TINY, s.actor, s.proposal, nxt_obs, drawn, keys[0])
    np.testing.assert_allclose(
        alone, semi_implicit.gaussian_log_density(drawn.z, *drawn.component), rtol=1e-6
    )
    # Its own component is one of K + 1: the density cannot fall below 1 / (K + 1) of it.
    assert float(mixed.min()) >= float(alone) - np.log(4.0) - 1e-5
    assert float(mixed.std()) > 0.0


@pytest.mark.parametrize("tau", [0.0, 1.0, 0.25])
def test_slow_copies_follow_the_new_critics(tau):
    cfg = changed(LAYERNORM, {"critic": {"tau": tau}})
    before, after = state(cfg), learner.update(cfg, state(cfg), batch())[0]
    old, new, slow = map(jax.tree.leaves, (before.target_critics, after.critics, after.target_critics))
    close(slow, [tau * n + (1 - tau) * o for n, o in zip(new, old, strict=True)])
    assert learner.policy(after).critics is after.target_critics


# --------------------------------------------------------------------------------------------- gradient flow


def reached(loss, groups):
    """Names of the groups of parameters in which the loss has a non-zero gradient."""
    grads = jax.grad(loss, allow_int=True)(groups)

    def any_in(g):
        leaves = [x for x in jax.tree.leaves(g) if x.dtype != jax.dtypes.float0]
        return any(np.any(np.asarray(x) != 0) for x in leaves)

    return {name for name, g in grads.items() if any_in(g)}


@pytest.mark.parametrize("cfg", [TINY, SOFT], ids=["hinge", "semi_implicit"])
def test_gradient_flow_of_every_loss(cfg):
    """The losses as ``update`` calls them: only what each docstring names is differentiated."""
    s, b = updated(cfg, 2)[0], batch()
    nets = tuple(critic.net for critic in s.critics)
    groups = {"actor": s.actor, "nets": nets, "alpha": s.log_alpha}
    e, eps = jax.random.normal(jax.random.key(0), (2, 16, 4, 2))
    q = q_value(cfg.critic.twin, s.critics)
    found = targets.candidates(cfg, s.actor, q, b.obs, jax.random.normal(jax.random.key(1), (16, 3, 2, 2)))
    pairs = targets.mirror_pairs(cfg.mirror, q, b.obs, b.action, found)
    weight = targets.mirror_weights(cfg.mirror, pairs.advantage) + 0.1
    t = jnp.full((16, 1), 0.7)

    def critic(g):
        return crossq_loss(g["nets"], cfg.critic, cfg.discount, s.critics, b, b.action, jnp.zeros(16))[0]

    def improvement(g):
        alpha = jnp.exp(s.log_alpha)
        return losses.improvement(g["actor"], cfg, q, alpha, jnp.float32(1.0), b.obs, e, eps[:, :1])[0]

    def mirror(g):
        return losses.mirror(g["actor"], cfg, b.obs, pairs.action, weight, e[:, :1], 0.0 * t, t)

    def alpha_loss(g):
        return temperature.loss(g["alpha"], jnp.float32(0.4), -1.0)

    assert reached(critic, groups) == {"nets"}
    assert reached(improvement, groups) == {"actor"}
    assert reached(mirror, groups) == {"actor"}
    assert reached(alpha_loss, groups) == {"alpha"}


def test_a_learned_proposal_is_trained_by_the_entropy_alone():
    """Its gradient is alpha times that of the bound, nothing else of the loss reaches it, and nothing acts on
    it."""
    s, b = updated(GUESSED, 2)[0], batch()
    e, eps = jax.random.normal(jax.random.key(0), (2, 16, 1, 2))
    draws = jax.random.normal(jax.random.key(1), (16, 1, 2, 2))
    q = q_value(GUESSED.critic.twin, s.critics)

    def loss(g, alpha):
        guess = losses.Guess(g["proposal"], draws)
        total, found = losses.improvement(
            g["actor"], GUESSED, q, jnp.float32(alpha), jnp.float32(1.0), b.obs, e, eps, guess
        )
        return total, found.entropy

    groups = {"actor": s.actor, "proposal": s.proposal, "nets": tuple(critic.net for critic in s.critics)}
    assert reached(lambda g: loss(g, 0.2)[0], groups) == {"actor", "proposal"}
    assert reached(lambda g: loss(g, 0.0)[0], groups) == {"actor"}
    of_loss = jax.grad(lambda g: loss(g, 0.2)[0])(groups)["proposal"]
    of_bound = jax.grad(lambda g: loss(g, 0.2)[1])(groups)["proposal"]
    close(of_loss, jax.tree.map(lambda g: -0.2 * g, of_bound))
    assert moved(s.proposal, state(GUESSED).proposal)
    assert not state(SOFT).proposal


def test_each_critic_is_trained_by_its_own_error_and_not_through_the_target():
    s, b = updated(TINY, 2)[0], batch()
    nets = tuple(critic.net for critic in s.critics)

    def loss(nets, r):
        changed = b._replace(reward=r)
        return crossq_loss(nets, TINY.critic, TINY.discount, s.critics, changed, b.action, jnp.zeros(16))[0]

    grads = jax.grad(loss)(nets, b.reward)

    # d loss / d target = -sum_j (q_j - y): a gradient through y would reach the rewards' twin, the bootstrap.
    def frozen(nets, y):
        rows = [
            joint_values(replace(k, net=n), b.obs, b.action, b.next_obs, b.action)[0]
            for k, n in zip(s.critics, nets, strict=True)
        ]
        return 0.5 * sum(jnp.mean((row - y) ** 2) for row in rows)

    target = crossq_loss(nets, TINY.critic, TINY.discount, s.critics, b, b.action, jnp.zeros(16))[1].target
    close(grads, jax.grad(frozen)(nets, target), rtol=1e-3, atol=1e-5)


def grads_of_improvement(cfg, log_std=None, alpha=0.2, q=lambda s, a: 0.0 * a.sum()):
    """Gradient of the improvement loss in the head's bias (mean, then rho), with sigma set by its bias."""
    actor = state(cfg).actor
    if log_std is not None:
        bias = jnp.concatenate([jnp.zeros(2), jnp.full(2, log_std - cfg.actor.log_std_initial)])
        head = replace(actor.trunk.body.head, bias=bias, weight=0.0 * actor.trunk.body.head.weight)
        actor = replace(actor, trunk=replace(actor.trunk, body=replace(actor.trunk.body, head=head)))
    e, eps = jax.random.normal(jax.random.key(0), (2, 64, 4, 2))
    obs = jnp.ones((64, 3))

    def loss(actor):
        return losses.improvement(actor, cfg, q, jnp.float32(alpha), jnp.float32(1.0), obs, e, eps[:, :1])[0]

    return np.asarray(jax.grad(loss)(actor).trunk.body.head.bias)


def test_the_hinge_pushes_sigma_up_below_its_threshold_and_is_silent_above():
    threshold = np.log(0.0033)
    below, above = (grads_of_improvement(TINY, threshold + x) for x in (-0.1, 0.1))
    np.testing.assert_allclose(below, [0, 0, -0.2, -0.2], atol=1e-6)
    np.testing.assert_array_equal(above, 0.0)


def test_the_bonus_pushes_sigma_up_everywhere_by_alpha():
    cfg = changed(TINY, {"entropy": {"kind": "bonus"}})
    for log_std in (-8.0, -3.0):
        np.testing.assert_allclose(grads_of_improvement(cfg, log_std), [0, 0, -0.2, -0.2], atol=1e-6)


def test_components_that_coincide_make_the_semi_implicit_term_the_bonus():
    np.testing.assert_allclose(grads_of_improvement(SOFT, -3.0), [0, 0, -0.2, -0.2], atol=0.03)


def test_the_bound_pulls_back_what_lies_outside_the_box_although_clipping_hides_it_from_q():
    cfg = changed(TINY, {"actor": {"bound_weight": 0.5}})
    actor = state(cfg).actor
    far = replace(actor.trunk.body.head, bias=jnp.array([3.0, -3.0, 0.0, 0.0]))
    actor = replace(actor, trunk=replace(actor.trunk, body=replace(actor.trunk.body, head=far)))
    e, eps = jnp.zeros((2, 8, 1, 2))
    obs = jnp.ones((8, 3))

    def loss(actor, weight):
        cfg = changed(TINY, {"actor": {"bound_weight": weight}})
        q = lambda s, a: 100.0 * a.sum()  # noqa: E731
        return losses.improvement(actor, cfg, q, jnp.float32(0.0), jnp.float32(1.0), obs, e, eps)[0]

    assert not np.any(jax.grad(loss)(actor, 0.0).trunk.body.head.bias)
    # The penalty is a mean over the two dimensions.
    np.testing.assert_allclose(jax.grad(loss)(actor, 0.5).trunk.body.head.bias[:2], [0.25, -0.25], rtol=1e-5)


# -------------------------------------------------------------------------------------------- mirror descent


ADVANTAGE = jnp.array([[-2.0], [-0.5], [0.0], [0.5], [3.0]])


def weights(kind, advantage=ADVANTAGE):
    return np.asarray(targets.mirror_weights(c.MirrorConfig(weights=kind), advantage))[:, 0]


def test_weights_are_zero_below_v_and_linear_above():
    np.testing.assert_allclose(weights("raw"), [0, 0, 0, 0.5, 3.0])
    np.testing.assert_allclose(weights("mean_one").mean(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights("uniform"), 0.7, rtol=1e-6)


@pytest.mark.parametrize(("kind", "power"), [("raw", 1), ("mean_one", 0), ("uniform", 1)])
def test_how_weights_scale_with_the_reward(kind, power):
    np.testing.assert_allclose(weights(kind, 50.0 * ADVANTAGE), 50.0**power * weights(kind), rtol=1e-5)


def test_rectified_weights_are_the_first_order_of_the_mirror_descent_weights():
    """exp(A / lambda) - 1 -> A / lambda as lambda grows, for A >= 0 (d.5, 4)."""
    for lam in (1e2, 1e4):
        exact = lam * np.expm1(np.asarray(ADVANTAGE[3:, 0]) / lam)
        np.testing.assert_allclose(weights("raw")[3:], exact, rtol=2.0 / lam)


def test_the_composite_target_is_what_entropy_and_mirror_descent_ask_for_together():
    """E_pi Q + a H(pi) - l KL(pi | pi_k) = const - (a + l) KL(pi | pi*), pi* ~ pi_k^(l/(a+l)) e^(Q/(a+l))."""
    x = np.linspace(-1, 1, 201)
    q, old = np.cos(7 * x), np.exp(-4 * (x - 0.3) ** 2)
    old /= old.sum()
    rng = np.random.default_rng(0)
    for a, lam in ((0.2, 3.0), (0.5, 0.0), (0.0, 1.0)):
        best = old ** (lam / (a + lam)) * np.exp(q / (a + lam))
        best /= best.sum()

        def objective(p, a=a, lam=lam):
            return p @ q - a * p @ np.log(p) - lam * p @ np.log(p / old)

        constants = []
        for _ in range(5):
            p = rng.random(201) + 0.01
            p /= p.sum()
            constants.append(objective(p) + (a + lam) * p @ np.log(p / best))
        np.testing.assert_allclose(constants, objective(best), rtol=1e-10)
        if a + lam < 1:  # pi* inherits the two bumps of Q inside the box: no single Gaussian is close
            assert np.sum((best[1:-1] > best[:-2]) & (best[1:-1] > best[2:])) >= 2


@pytest.mark.parametrize(
    ("source", "low", "high"), [("candidates", 0.2, 0.8), ("best", 0.999, 1.0), ("replay", 0.0, 0.999)]
)
def test_what_share_of_the_actions_counts(source, low, high):
    cfg = changed(TINY, {"mirror": {"source": source, "candidates": 8}})
    _, metrics = updated(cfg, 3)
    assert low <= float(metrics["mirror/weight_share"]) <= high


def test_the_regression_finds_the_actions_it_is_given():
    """Unit weights and one action per state: mu(s, e) becomes that action for every e, sigma falls."""
    cfg = changed(TINY, {"actor": {"hidden": (32, 32), "learning_rate": 3e-3}, "mirror": {"gamma": 1.0}})
    obs = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).repeat(64, axis=0)
    action = jnp.array([[0.5, -0.5], [-0.7, 0.2]]).repeat(64, axis=0)[:, None]

    def one(carry, key):
        actor, moments = carry
        k_e, k_t = jax.random.split(key)
        e = jax.random.normal(k_e, action.shape)
        t = 1.0 - jax.random.uniform(k_t, (128, 1))
        value, grads = jax.value_and_grad(losses.mirror)(
            actor, cfg, obs, action, jnp.ones((128, 1)), e, 0.0 * t, t
        )
        return learner.Adam(3e-3).step(actor, grads, moments), value

    actor = state(cfg).actor
    carry = (actor, learner.Adam(3e-3).init(actor))
    (actor, _), _ = jax.jit(lambda c, k: jax.lax.scan(one, c, k))(
        carry, jax.random.split(jax.random.key(0), 800)
    )
    parts = jax.vmap(lambda e: policy.component(cfg, actor, obs[0], e))(
        jax.random.normal(jax.random.key(1), (200, 2))
    )
    np.testing.assert_allclose(parts.mean.mean(0), action[0, 0], atol=0.08)
    assert float(parts.log_std.mean()) < -3.3


# ------------------------------------------------------------------------------------------------ the update


def test_q_scaling_makes_the_policy_blind_to_the_units_of_reward():
    """With ``scale_q`` multiplying Q by 100 changes nothing; without it the Q part outgrows the entropy's."""
    obs, replayed = batch().obs, batch().action
    for scale_q, same in ((True, True), (False, False)):
        cfg = changed(TINY, {"actor": {"scale_q": scale_q}})
        plain = learner.improve_policy(cfg, state(cfg), lambda s, a: jnp.sum(a) + 3.0, obs, replayed)[1]
        large = learner.improve_policy(
            cfg, state(cfg), lambda s, a: 100.0 * (jnp.sum(a) + 3.0), obs, replayed
        )[1]
        assert np.isclose(float(plain["actor/loss"]), float(large["actor/loss"]), rtol=1e-3) == same


def test_a_delayed_actor_moves_only_when_due_and_its_metrics_are_held():
    cfg = changed(TINY, {"actor": {"delay": 2}})
    first, m1 = step(cfg)(state(cfg), batch(seed=0))
    second, m2 = step(cfg)(first, batch(seed=1))
    third, m3 = step(cfg)(second, batch(seed=2))
    assert moved(state(cfg).actor, first.actor)
    assert not moved(first.actor, second.actor)
    assert moved(first.critics, second.critics)
    assert moved(second.actor, third.actor)
    assert m1["actor/loss"] == m2["actor/loss"] != m3["actor/loss"]


OTHER_SHAPES = [
    (TINY, {"actor": {"backbone": "dit"}}),
    (TINY, {"actor": {"batch_size": 8}, "mirror": {"batch_size": 5}}),
    (TINY, {"actor": {"samples": 2}}),
    (SOFT, {"actor": {"samples": 4}}),
    (SOFT, {"entropy": {"components": 1}}),
    (TINY, {"mirror": {"source": "candidates"}}),
]
SAME_SHAPES = [
    (TINY, {"actor": {"output": "residual"}}),
    (TINY, {"actor": {"max_grad_norm": 1e-3}}),
    (TINY, {"actor": {"candidates": 1}}),
    (TINY, {"actor": {"scale_q": True}}),
    (TINY, {"critic": {"twin": "mean"}}),
    (TINY, {"critic": {"b1": 0.9}}),
    (TINY, {"critic": {"momentum": 0.5}}),
    (TINY, {"critic": {"warm_up": 0}}),
    (TINY, {"mirror": {"weight": 0.0}}),
    (TINY, {"mirror": {"source": "best"}}),
    (TINY, {"mirror": {"weights": "mean_one"}}),
    (TINY, {"mirror": {"weights": "uniform"}}),
    (TINY, {"mirror": {"sigma_in_regression": False}}),
    (TINY, {"mirror": {"gamma": 1.0}}),
    (TINY, {"mirror": {"limit": 0.5}}),
    (TINY, {"mirror": {"interval": "general"}}),
    (TINY, {"mirror": {"end_share": 0.5}}),
    (TINY, {"entropy": {"kind": "bonus"}}),
    (TINY, {"entropy": {"target_std": 0.9}}),
    (TINY, {"entropy": {"kind": "dual"}}),
    (SOFT, {"entropy": {"noise": "antithetic"}}),
    (SOFT, {"entropy": {"noise": "stratified"}}),
    (SOFT, {"entropy": {"soft_backup": False}}),
    (SOFT, {"temperature": {"automatic": True}}),
    (SOFT, {"entropy": {"proposal": "learned"}}),
    (SOFT, {"temperature": {"anneal_updates": 100}}),
]
OPTIONS = [(*option, True) for option in OTHER_SHAPES] + [(*option, False) for option in SAME_SHAPES]


@pytest.mark.parametrize(
    ("base", "changes", "whole"), OPTIONS, ids=[str(changes) for _, changes, _ in OPTIONS]
)
def test_every_option_changes_something(base, changes, whole):
    plain, (other, metrics) = updated(base, 2)[0], updated(changed(base, changes), 2, whole)
    trained = ("actor", "critics", "log_alpha")
    ours, theirs = ([jax.tree.leaves(getattr(s, n)) for n in trained] for s in (plain, other))
    assert len(jax.tree.leaves(ours)) != len(jax.tree.leaves(theirs)) or (differ if whole else moved)(
        ours, theirs
    )
    assert all(np.isfinite(float(m)) for m in metrics.values())
    assert metrics.keys() >= set(learner.policy_metrics(changed(base, changes)))


def differ(a, b):
    """By more than the order of a sum: one program and many need not round alike."""
    return any(
        not np.allclose(x, y, rtol=1e-3, atol=1e-5)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_an_annealed_temperature_starts_high_and_ends_at_its_value():
    cfg = changed(SOFT, {"temperature": {"initial": 0.1, "anneal_factor": 8.0, "anneal_updates": 300}})
    alphas = [
        float(learner.alpha_of(cfg, replace(state(cfg), updates=jnp.int32(n)))) for n in (0, 100, 300, 999)
    ]
    np.testing.assert_allclose(alphas, [0.8, 0.4, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(float(updated(cfg)[1]["temperature/alpha"]), 0.8, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"), [("semi_implicit", -2.0), ("dual", 2 * np.log(0.0033) + np.log(2 * np.pi * np.e))]
)
def test_what_an_adjusted_temperature_steers_to(kind, expected):
    cfg = changed(TINY, {"entropy": {"kind": kind}})
    np.testing.assert_allclose(learner.target_entropy(cfg, 2), expected, rtol=1e-5)
    for entropy, direction in ((expected - 1.0, 1), (expected + 1.0, -1)):
        after, _ = learner.update_temperature(cfg, state(cfg), jnp.float32(entropy), act_size=2)
        assert np.sign(float(after.log_alpha - state(cfg).log_alpha)) == direction


def test_the_temperature_stays_inside_its_bounds():
    section = {"initial": 0.01, "minimum": 0.009, "maximum": 0.011, "learning_rate": 0.5}
    cfg = changed(TINY, {"entropy": {"kind": "dual"}, "temperature": section})
    for entropy, bound in ((-99.0, 0.011), (99.0, 0.009)):
        after, _ = learner.update_temperature(cfg, state(cfg), jnp.float32(entropy), act_size=2)
        np.testing.assert_allclose(jnp.exp(after.log_alpha), bound, rtol=1e-5)


def test_no_two_uses_share_a_key():
    s = state()
    keys = {tuple(np.asarray(jax.random.key_data(learner.use_key(s, use)))) for use in learner.Use}
    later = replace(s, updates=s.updates + 1)
    keys |= {tuple(np.asarray(jax.random.key_data(learner.use_key(later, use)))) for use in learner.Use}
    assert len(keys) == 2 * len(learner.Use)


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        (c.ActorConfig, {"hidden": ()}),
        (c.ActorConfig, {"hidden": (8, 16), "backbone": "dit"}),
        (c.ActorConfig, {"log_std_min": -2.0}),
        (c.ActorConfig, {"learning_rate": 0.0}),
        (c.ActorConfig, {"samples": 0}),
        (c.ActorConfig, {"candidates": 0}),
        (c.ActorConfig, {"max_grad_norm": -1.0}),
        (c.CriticConfig, {"hidden": (0,)}),
        (c.CriticConfig, {"tau": 1.5}),
        (c.CriticConfig, {"momentum": 1.0}),
        (c.CriticConfig, {"b1": 1.0}),
        (c.MirrorConfig, {"weight": -1.0}),
        (c.MirrorConfig, {"candidates": 0}),
        (c.MirrorConfig, {"gamma": 1.1}),
        (c.MirrorConfig, {"limit": 0.0}),
        (c.EntropyConfig, {"target_std": 0.0}),
        (c.EntropyConfig, {"components": -1}),
        (c.EntropyConfig, {"components": 4, "noise": "antithetic"}),
        (c.EntropyConfig, {"soft_backup": True}),
        (c.TemperatureConfig, {"initial": 0.0}),
        (c.TemperatureConfig, {"anneal_factor": 0.0}),
        (c.TemperatureConfig, {"anneal_updates": -1}),
        (c.SMFPConfig, {"discount": 1.01}),
        (c.SMFPConfig, {"temperature": c.TemperatureConfig(automatic=True)}),
    ],
)
def test_impossible_hyper_parameters_are_refused_in_one_line(section, fields):
    with pytest.raises(UsageError) as caught:
        section(**fields)
    assert "\n" not in str(caught.value)
    assert next(iter(fields)) in str(caught.value)


# ------------------------------------------------------------------------------------- targets known exactly


def improve(cfg, q, rounds, states=32, key=0):
    """Train the policy side alone on a given value."""

    @jax.jit
    def run(s):
        def one(s, _):
            obs, unused = jnp.ones((states, 3)), jnp.zeros((states, 2))
            s, metrics = learner.improve_policy(cfg, s, q, obs, unused)
            return replace(s, updates=s.updates + 1), metrics

        return jax.lax.scan(one, s, length=rounds)

    return run(state(cfg, seed=key))


def actions_of(cfg, s, count=4000):
    act = jax.jit(lambda p, o, k: policy.act(cfg, p, o, k, ActionMode()))
    return np.asarray(act(learner.policy(s), jnp.ones((count, 3)), jax.random.key(9)))


LEARN = {"actor": {"hidden": (32, 32), "learning_rate": 3e-3}, "mirror": {"weight": 0.0, "candidates": 2}}


@pytest.mark.parametrize("kind", ["hinge", "dual"])
def test_sigma_settles_at_its_threshold(kind):
    """A sharp value would make sigma vanish; hinge and dual hold it at target_std for a large alpha."""
    cfg = changed(
        TINY, LEARN | {"entropy": {"kind": kind, "target_std": 0.1}, "temperature": {"learning_rate": 1e-2}}
    )
    s, metrics = improve(cfg, lambda s, a: -3.0 * jnp.sum((a - 0.2) ** 2), 1500)
    assert abs(float(metrics["policy/log_std"][-100:].mean()) - np.log(0.1)) < 0.15
    np.testing.assert_allclose(actions_of(cfg, s).mean(0), 0.2, atol=0.05)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_dual_finds_its_alpha_at_any_scale_of_reward(scale):
    cfg = changed(
        TINY, LEARN | {"entropy": {"kind": "dual", "target_std": 0.1}, "temperature": {"learning_rate": 1e-2}}
    )
    _, metrics = improve(cfg, lambda s, a: -3.0 * scale * jnp.sum((a - 0.2) ** 2), 2000)
    # At the optimum alpha = sigma^2 x curvature = 0.01 x 6 scale.
    np.testing.assert_allclose(metrics["temperature/alpha"][-200:].mean(), 0.06 * scale, rtol=0.3)
    assert abs(float(metrics["policy/log_std"][-200:].mean()) - np.log(0.1)) < 0.15


def test_a_quadratic_value_gives_its_boltzmann_gaussian():
    """Q = -|a - m|^2 / 2 at alpha 0.04 has the Boltzmann policy N(m, 0.2^2) with entropy -0.38, for any K."""
    cfg = changed(SOFT, LEARN | {"temperature": {"initial": 0.04}, "entropy": {"components": 3}})
    centre = jnp.array([0.2, -0.1])
    s, metrics = improve(cfg, lambda s, a: -0.5 * jnp.sum((a - centre) ** 2), 1500, states=64)
    drawn = actions_of(cfg, s)
    np.testing.assert_allclose(drawn.mean(0), centre, atol=0.03)
    np.testing.assert_allclose(drawn.std(0), 0.2, atol=0.03)
    exact = np.log(2 * np.pi * np.e) + 2 * np.log(0.2)
    assert abs(float(metrics["policy/entropy"][-200:].mean()) - exact) < 0.1
