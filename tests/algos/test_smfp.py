"""SMFP: how it acts, what flows where, its weights and options, and targets known exactly."""

from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.shared import tanh_gaussian
from fewstep.algos.smfp import ALGORITHM, learner, losses, policy, targets
from fewstep.algos.smfp.config import MirrorConfig, SMFPConfig
from fewstep.algos.smfp.network import PolicyNet
from fewstep.errors import UsageError
from fewstep.flows import semi_implicit
from fewstep.nets.trained import Trained, descend
from fewstep.types import Spec
from tests.algos.common import (
    TARGET,
    assert_close,
    assert_one_step,
    batch,
    bump,
    changed,
    moved,
    program,
    reached,
    same,
)
from tests.critics.reference import expected
from tests.few import few

SPEC = Spec(3, 2)
FEW = {
    "actor": {"delay": 1, "candidates": 4, "evaluation_candidates": 3},
    "mirror": {"candidates": 3},
    "entropy": {"components": 3},
}
TINY = changed(changed(SMFPConfig(), ALGORITHM.tiny), FEW)
SOFT = changed(TINY, {"entropy": {"kind": "semi_implicit", "soft_backup": True}})
GUESSED = changed(SOFT, {"entropy": {"proposal": "learned", "components": 2}})
LAYERNORM = changed(TINY, {"critic": {"trunk": "layernorm", "target": "polyak"}})


def state(cfg=TINY, spec=SPEC, seed=0):
    return learner.init(cfg, spec, jax.random.key(seed))


def step(cfg):
    """One update, operation by operation: compiling it whole for every option would take minutes."""
    return partial(learner.update, cfg)


@cache
def updated(cfg, count=1):
    """The state after ``count`` updates on different batches, and the last metrics."""
    s, metrics = state(cfg), {}
    for i in range(count):
        s, metrics = step(cfg)(s, batch(seed=i))
    return s, metrics


def q_of(s):
    return s.critics.q(TINY.critic)


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
    run = lambda: ALGORITHM.act(TINY, p, obs, jax.random.key(0), mode)  # noqa: E731
    assert count_evaluations(monkeypatch, run) == expected


def test_a_draw_is_mean_plus_sigma_times_noise_cut_at_the_box():
    s, obs = state(), jnp.ones(3)
    noise = jnp.array([[0.3, -0.8], [40.0, 0.5]])
    drawn = policy.draw(TINY, s.actor, obs, noise)
    part = policy.component(TINY, s.actor, obs, noise[0])
    np.testing.assert_allclose(drawn.z, part.mean + jnp.exp(part.log_std) * noise[1], rtol=1e-6)
    assert float(drawn.action[0]) == 1.0
    assert float(drawn.action[1]) == float(drawn.z[1])


@pytest.mark.slow
def test_sigma_depends_on_state_and_noise_and_stays_in_its_range():
    s = updated(TINY, 3)[0]
    log_std = lambda o, e: policy.component(TINY, s.actor, o, e).log_std  # noqa: E731
    one = log_std(jnp.ones(3), jnp.ones(2))
    assert not same(one, log_std(-jnp.ones(3), jnp.ones(2)))
    assert not same(one, log_std(jnp.ones(3), -jnp.ones(2)))
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
    after = updated(TINY)[0]
    assert [int(x.batches) for stats in after.critics.stats for x in stats] == [1] * 6
    s, b = state(), batch(seed=0)
    nxt, _ = learner.successor(TINY, s, b)
    rows = jnp.concatenate([jnp.hstack([b.obs, b.action]), jnp.hstack([b.next_obs, nxt])])
    assert_close(after.critics.stats[0], s.critics.online.params[0].train(s.critics.stats[0], rows)[1])


@pytest.mark.parametrize(
    "cfg",
    [
        pytest.param(TINY, id="crossq"),
        pytest.param(SOFT, id="soft"),
        pytest.param(GUESSED, id="guessed", marks=pytest.mark.slow),
        pytest.param(LAYERNORM, id="layernorm", marks=pytest.mark.slow),
    ],
)
def test_the_critics_regress_on_the_best_of_half_the_candidates(cfg):
    """From the draws that the update makes, judged by the target networks where there are some."""
    s, b = updated(cfg, 2)[0], batch(seed=7)
    noise = jax.random.normal(use_key(s, learner.Use.NEXT_ACTION), (16, cfg.target_candidates, 2, 2))
    q = s.critics.target_q(cfg.critic)
    nxt = jax.vmap(lambda o, e: targets.next_action(cfg, s.actor, q, o, e))(b.next_obs, noise)
    bonus = np.zeros(16)
    if cfg.entropy.soft_backup:
        keys = jax.random.split(use_key(s, learner.Use.NEXT_COMPONENTS), 16)
        proposal = s.nets.params.proposal
        log_q = jax.vmap(lambda o, n, k: targets.log_density(cfg, s.actor, proposal, o, n, k))
        bonus = -0.2 * np.asarray(log_q(b.next_obs, nxt, keys))
    wanted, _ = expected(cfg.critic, 0.99, s.critics, b, nxt.action, bonus)
    _, metrics = step(cfg)(s, b)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-3, atol=1e-4, err_msg=name)


def test_a_soft_backup_pays_for_entropy():
    s, nxt_obs = updated(SOFT, 2)[0], jnp.ones(3)
    drawn = policy.draw(SOFT, s.actor, nxt_obs, jax.random.normal(jax.random.key(0), (2, 2)))
    keys = jax.random.split(jax.random.key(1), 200)
    mixed = jax.vmap(lambda k: targets.log_density(SOFT, s.actor, (), nxt_obs, drawn, k))(keys)
    alone = targets.log_density(TINY, s.actor, (), nxt_obs, drawn, keys[0])
    np.testing.assert_allclose(
        alone, semi_implicit.gaussian_log_density(drawn.z, *drawn.component), rtol=1e-6
    )
    # Its own component is one of K + 1: the density cannot fall below 1 / (K + 1) of it.
    assert float(mixed.min()) >= float(alone) - np.log(4.0) - 1e-5
    assert float(mixed.std()) > 0.0


# --------------------------------------------------------------------------------------------- gradient flow


@pytest.mark.parametrize(
    ("base", "source"), [(TINY, "best"), (SOFT, "replay")], ids=["hinge", "semi_implicit"]
)
def test_an_improvement_is_one_step_down_the_three_losses_with_constant_targets_and_weights(base, source):
    """Pathwise in value, entropy and bound; in mirror descent only in what is regressed."""
    cfg = changed(base, {"entropy.target_std": 0.05, "actor.samples": 2, "mirror.source": source})
    s, b = state(cfg), batch()
    s = replace(s, nets=replace(s.nets, params=moved(s.nets.params, size=0.3)))
    after, metrics = jax.jit(lambda s: learner.improve(cfg, s, bump, b.obs, b.action))(s)
    drawn = learner.samples(cfg, s, 16, 2)
    found, _ = jax.jit(lambda s: learner.candidates(cfg, s, bump, b.obs))(s)
    best = np.asarray(found.action)[np.arange(16), found.q.argmax(1)]
    a = jnp.asarray(best) if source == "best" else b.action
    weight = np.maximum(-np.sum((a - TARGET) ** 2, axis=1) - np.mean(found.q, axis=1), 0)
    assert np.ptp(weight) > 0.02
    t = 1.0 - jax.random.uniform(use_key(s, learner.Use.MIRROR_TIMES), (16, 1))[:, 0]
    e = jax.random.normal(use_key(s, learner.Use.MIRROR_NOISE), (16, 1, 2))[:, 0]
    x, v = (1 - t)[:, None] * a + t[:, None] * e, e - a
    gaussian = jax.vmap(partial(policy.gaussian, cfg), (None, 0, 0, 0, 0))
    zero, one = jnp.zeros(16), jnp.ones(16)
    path = lambda actor, x, t: gaussian(actor, b.obs, x, zero, t)  # noqa: E731

    @jax.jit
    def constants(actor):
        g, slope = jax.jvp(lambda x, t: path(actor, x, t).mean, (x, t), (v, one))
        target = jnp.clip(x + (t - 1)[:, None] * v - t[:, None] * slope, -5, 5)
        return target, (jnp.mean((g - target) ** 2, axis=1) + 1e-4) ** -0.2

    target, adaptive = constants(s.actor)

    def loss(nets):
        actor = nets.actor
        parts = [gaussian(actor, b.obs, drawn.e[:, n], zero, one) for n in range(drawn.e.shape[1])]
        value = uncertainty = outside = 0.0
        for m in range(2):
            z = parts[m].mean + jnp.exp(parts[m].log_std) * drawn.eps[:, m]
            value -= jnp.sum((jnp.clip(z, -1, 1) - TARGET) ** 2, axis=1) / 2
            outside += jax.nn.relu(jnp.abs(z) - 1).mean(axis=1) / 2
            if cfg.entropy.kind == "hinge":
                uncertainty += jax.nn.relu(np.log(0.05) - parts[m].log_std).sum(1) / 2
            else:
                normal = [-0.5 * ((z - p.mean) / jnp.exp(p.log_std)) ** 2 - p.log_std for p in parts]
                densities = jnp.stack([n.sum(1) - np.log(2 * np.pi) for n in normal])
                uncertainty += (jax.nn.logsumexp(densities, axis=0) - np.log(len(parts))) / 2
        g = path(actor, x, t)
        error = jnp.mean((g.mean - target) ** 2, axis=1) + jnp.mean(jnp.exp(2 * g.log_std), axis=1)
        return jnp.mean(-value + 0.2 * uncertainty + outside + 3.0 * weight * adaptive * error)

    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(s.nets.params), rtol=1e-4)
    assert float(metrics["actor/bound"]) > 0
    assert_one_step(cfg.actor, s.nets, after.nets, loss)
    assert same((after.critics, after.temperature), (s.critics, s.temperature))


def test_who_moves_in_which_part_of_the_update():
    """The critics' step moves critics alone, the policy's part the policy alone (and an adjusted alpha)."""
    cfg = changed(TINY, {"actor.delay": 2, "entropy.kind": "dual"})
    states = [state(cfg)]
    for seed in range(3):
        states.append(step(cfg)(states[-1], batch(seed=seed))[0])
    for name in ("nets", "temperature", "held"):
        still = [same(getattr(old, name), getattr(new, name)) for old, new in pairwise(states)]
        assert still == [False, True, False], name
    assert not same(states[1].critics.online, states[2].critics.online)
    improved, _ = learner.improve(
        cfg, states[2], states[2].critics.q(cfg.critic), batch().obs, batch().action
    )
    assert same(improved.critics, states[2].critics)


def test_a_learned_proposal_is_trained_by_the_entropy_alone():
    """Its gradient is alpha times that of the bound, nothing else of the loss reaches it, and nothing acts on
    it."""
    s, b = updated(GUESSED, 2)[0], batch()
    e, eps = jax.random.normal(jax.random.key(0), (2, 16, 1, 2))
    draws = jax.random.normal(jax.random.key(1), (16, 1, 2, 2))

    def loss(g, alpha):
        guess = losses.Guess(g["proposal"], draws)
        total, found = losses.improvement(g["actor"], GUESSED, q_of(s), alpha, b.obs, e, eps, guess)
        return total, found.entropy

    groups = {"actor": s.actor, "proposal": s.nets.params.proposal}
    assert reached(lambda g: loss(g, 0.2)[0], groups) == {"actor", "proposal"}
    assert reached(lambda g: loss(g, 0.0)[0], groups) == {"actor"}
    of_loss, of_bound = (
        jax.jit(jax.grad(lambda g, i=i: loss(g, 0.2)[i]))(groups)["proposal"] for i in (0, 1)
    )
    assert_close(of_loss, jax.tree.map(lambda g: -0.2 * g, of_bound))
    assert not same(s.nets.params.proposal, state(GUESSED).nets.params.proposal)
    assert state(SOFT).nets.params.proposal == ()


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
        return losses.improvement(actor, cfg, q, jnp.float32(alpha), obs, e, eps[:, :1])[0]

    return np.asarray(jax.grad(loss)(actor).trunk.body.head.bias)


def test_the_hinge_pushes_sigma_up_below_its_threshold_and_is_silent_above():
    threshold = np.log(0.0033)
    below, above = (grads_of_improvement(TINY, threshold + x) for x in (-0.1, 0.1))
    np.testing.assert_allclose(below, [0, 0, -0.2, -0.2], atol=1e-6)
    np.testing.assert_array_equal(above, 0.0)


def test_the_conditional_entropy_of_dual_pushes_sigma_up_everywhere_by_alpha():
    cfg = changed(TINY, {"entropy": {"kind": "dual"}})
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
        return losses.improvement(actor, cfg, q, jnp.float32(0.0), obs, e, eps)[0]

    assert not np.any(jax.grad(loss)(actor, 0.0).trunk.body.head.bias)
    # The penalty is a mean over the two dimensions.
    np.testing.assert_allclose(jax.grad(loss)(actor, 0.5).trunk.body.head.bias[:2], [0.25, -0.25], rtol=1e-5)


# ---------------------------------------------------------------------------------------- squashed by tanh


SQUASHED = changed(TINY, {"actor.bound": "tanh", "entropy.kind": "dual"})


def test_a_squashed_draw_is_the_tanh_of_its_sample():
    drawn = policy.draw(SQUASHED, state().actor, jnp.ones(3), jnp.array([[0.3, -0.8], [40.0, 0.5]]))
    np.testing.assert_array_equal(drawn.action, jnp.tanh(drawn.z))
    assert float(drawn.z[0]) > 1.0


def test_squashed_improvement_has_the_gradient_of_sacs_policy_loss():
    """Given e the policy is SAC's tanh-Gaussian. The entropies differ by what its sample is off: the mean of
    (d - |eps|^2) / 2, in which there is no parameter."""
    actor, obs, alpha = moved(state(SQUASHED).actor, size=0.5), batch(64).obs, 0.3
    e, eps = jax.random.normal(jax.random.key(0), (2, 64, 2, 2))

    def ours(actor):
        total, found = losses.improvement(actor, SQUASHED, bump, alpha, obs, e, eps)
        return total, found.entropy

    def sacs(actor):
        def one(s, e, eps):
            drawn = tanh_gaussian.squash(*policy.component(SQUASHED, actor, s, e), eps)
            return alpha * drawn.log_prob - bump(s, drawn.action), -drawn.log_prob

        return jax.tree.map(jnp.mean, jax.vmap(jax.vmap(one, (None, 0, 0)))(obs, e, eps))

    (_, entropy), found = jax.jit(jax.value_and_grad(ours, has_aux=True))(actor)
    (_, sampled), wanted = jax.jit(jax.value_and_grad(sacs, has_aux=True))(actor)
    assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    off = jnp.mean(2.0 - jnp.sum(eps**2, axis=-1)) / 2
    np.testing.assert_allclose(entropy - sampled, off, atol=1e-4)


@pytest.mark.parametrize("base", [TINY, SOFT, GUESSED], ids=["one", "mixture", "guessed"])
def test_the_density_of_a_squashed_action_integrates_to_one(base):
    """By quadrature over the box, the components (or guesses) held at those of one draw."""
    cfg, spec = changed(base, {"actor.bound": "tanh"}), Spec(3, 1)
    s = state(cfg, spec)
    guess = s.nets.params.proposal
    drawn = policy.draw(cfg, s.actor, jnp.ones(3), jnp.array([[0.3], [0.1]]))
    actions, width = np.linspace(-1, 1, 20_001, retstep=True)
    middle = jnp.asarray(actions[:-1] + width / 2, jnp.float32)[:, None]

    def density(a):
        z = jnp.arctanh(a)
        own = policy.Draw(z, a, drawn.component, drawn.e)
        log_q = targets.log_density(cfg, s.actor, guess, jnp.ones(3), own, jax.random.key(1))
        before = targets.log_density(base, s.actor, guess, jnp.ones(3), own, jax.random.key(1))
        return jnp.exp(log_q), log_q - before

    found, change = jax.jit(jax.vmap(density))(middle)
    np.testing.assert_allclose(change, -np.log(1 - np.asarray(middle[:, 0], np.float64) ** 2), atol=1e-3)
    if base is not GUESSED:  # its weights depend on the action, so it is a density only on average
        assert float(found.sum() * width) == pytest.approx(1.0, abs=2e-3)


def test_a_squashed_flow_leads_to_the_inverse_images_of_actions():
    """The regression on tanh(z) is that of the unbounded flow on z; beyond the limit, on the limit."""
    actor, obs = state(SQUASHED).actor, batch(3).obs
    e, weight, t = jnp.full((3, 2, 2), 0.4), jnp.ones((3, 2)), jnp.array([[0.2, 1.0], [0.7, 0.5], [1.0, 0.1]])
    z = jnp.array([-1.5, -0.2, 0.0, 0.3, 0.9, 2.0, 1.0, -1.0, 0.5, 0.1, 5.0, -5.0]).reshape(3, 2, 2)
    a = jnp.where(jnp.abs(z) < 5.0, jnp.tanh(z), jnp.sign(z))
    squashed, plain = (
        losses.mirror(actor, cfg, obs, given, weight, e, t) for cfg, given in ((SQUASHED, a), (TINY, z))
    )
    assert float(squashed) == pytest.approx(float(plain), rel=1e-4)


# -------------------------------------------------------------------------------------------- mirror descent


ADVANTAGE = jnp.array([[-2.0], [-0.5], [0.0], [0.5], [3.0]])


def weights(kind, advantage=ADVANTAGE):
    return np.asarray(targets.mirror_weights(MirrorConfig(weights=kind), advantage))[:, 0]


def test_weights_are_zero_below_v_and_linear_above():
    np.testing.assert_allclose(weights("raw"), [0, 0, 0, 0.5, 3.0])
    np.testing.assert_allclose(weights("uniform"), 0.7, rtol=1e-6)


@pytest.mark.parametrize("kind", ["raw", "uniform"])
def test_weights_scale_with_the_reward_like_the_value_beside_them(kind):
    np.testing.assert_allclose(weights(kind, 50.0 * ADVANTAGE), 50.0 * weights(kind), rtol=1e-5)


def test_rectified_weights_are_the_first_order_of_the_mirror_descent_weights():
    """exp(A / lambda) - 1 -> A / lambda as lambda grows, for A >= 0 (d.5, 4)."""
    for lam in (1e2, 1e4):
        exact = lam * np.expm1(np.asarray(ADVANTAGE[3:, 0]) / lam)
        np.testing.assert_allclose(weights("raw")[3:], exact, rtol=2.0 / lam)


@pytest.mark.parametrize("source", ["replay", "candidates", "best"])
def test_the_weight_of_an_action_is_what_it_is_better_than_the_mean_candidate(source):
    """Of an update's own candidates; and the share of the actions that are better."""
    cfg = changed(TINY, {"mirror": {"source": source, "candidates": 8}})
    s, b, names = state(cfg), batch(), ("mirror/weight_mean", "mirror/weight_share")
    q = lambda s, a: -jnp.sum((a - 0.3 * s[:2]) ** 2)  # noqa: E731
    run = jax.jit(lambda s, b: {name: learner.improve(cfg, s, q, b.obs, b.action)[1][name] for name in names})
    metrics = run(s, b)

    noises = jax.random.normal(use_key(s, learner.Use.CANDIDATES), (16, 8, 2, 2))
    drawn = jax.jit(jax.vmap(lambda o, e: policy.draws(cfg, s.actor, o, e).action))(b.obs, noises)
    goal = 0.3 * np.asarray(b.obs)[:, None, :2]
    values = -((np.asarray(drawn) - goal) ** 2).sum(-1)
    actions = {"replay": b.action[:, None], "candidates": drawn}.get(source)
    judged = values.max(1, keepdims=True) if actions is None else -((np.asarray(actions) - goal) ** 2).sum(-1)
    better = judged - values.mean(1, keepdims=True)
    assert float(metrics["mirror/weight_share"]) == pytest.approx(np.mean(better > 0))
    assert float(metrics["mirror/weight_mean"]) == pytest.approx(np.maximum(better, 0).mean(), rel=1e-4)


@pytest.mark.parametrize("output", ["direct", "residual"])
def test_the_mirror_loss_written_out(output):
    """The target by finite differences, cut to the limit; it and the adaptive weight carry no gradient."""
    cfg = changed(TINY, {"actor": {"output": output}, "mirror": {"limit": 1.0}})
    plain, rng, h = state(cfg).actor, np.random.default_rng(0), 1e-5
    with jax.enable_x64(True):
        actor = jax.tree.map(lambda x: jnp.asarray(x + 0.3 * rng.normal(size=x.shape)), plain)
        obs, weight = rng.normal(size=(3, 3)), rng.uniform(0.5, 2.0, (3, 2))
        action, e, t = rng.uniform(-1, 1, (3, 2, 2)), rng.normal(size=(3, 2, 2)), rng.random((3, 2))

        @jax.jit
        def at(actor, s, x, b, t):
            g, rho = actor(s, x, b, t)
            return g if output == "direct" else x - g, jnp.clip(rho - 3.0, -10.0, 0.5)

        terms, cut = [], []
        for row, pair in np.ndindex(3, 2):
            a, noise, time = action[row, pair], e[row, pair], t[row, pair]
            x, v = (1 - time) * a + time * noise, noise - a
            ahead, behind = (at(actor, obs[row], x + d * v, 0.0, time + d)[0] for d in (h, -h))
            target = x + (time - 1) * v - time * (ahead - behind) / (2 * h)
            error = np.mean((at(actor, obs[row], x, 0.0, time)[0] - np.clip(target, -1, 1)) ** 2)
            terms.append((row, x, time, np.clip(target, -1, 1), weight[row, pair] * (error + 1e-4) ** -0.2))
            cut.append(np.abs(target) > 1)
        assert 0 < np.mean(cut) < 1
        rows, *given = map(np.array, zip(*terms, strict=True))

        def by_hand(actor):
            def one(s, x, t, target, factor):
                mean, log_std = at(actor, s, x, 0.0, t)
                return factor * (jnp.mean((mean - target) ** 2) + jnp.mean(jnp.exp(2 * log_std)))

            return jax.vmap(one)(obs[rows], *given).mean()

        found = jax.jit(jax.value_and_grad(lambda net: losses.mirror(net, cfg, obs, action, weight, e, t)))
        assert_close(found(actor), jax.jit(jax.value_and_grad(by_hand))(actor), rtol=1e-6, atol=1e-8)


def test_the_regression_finds_the_actions_it_is_given():
    """Unit weights and one action per state: mu(s, e) becomes that action for every e, sigma falls."""
    cfg = changed(TINY, {"actor": {"hidden": (32, 32), "learning_rate": 3e-3}, "mirror": {"gamma": 1.0}})
    obs = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).repeat(64, axis=0)
    action = jnp.array([[0.5, -0.5], [-0.7, 0.2]]).repeat(64, axis=0)[:, None]

    def loss(actor, key):
        k_e, k_t = jax.random.split(key)
        e, t = jax.random.normal(k_e, action.shape), 1.0 - jax.random.uniform(k_t, (128, 1))
        return losses.mirror(actor, cfg, obs, action, jnp.ones((128, 1)), e, t), None

    def one(trained, key):
        return descend(cfg.actor, trained, loss, key)[:2]

    keys = jax.random.split(jax.random.key(0), 800)
    start = Trained.start(cfg.actor, state(cfg).actor)
    actor = jax.jit(lambda trained: jax.lax.scan(one, trained, keys)[0])(start).params
    parts = jax.vmap(lambda e: policy.component(cfg, actor, obs[0], e))(
        jax.random.normal(jax.random.key(1), (200, 2))
    )
    np.testing.assert_allclose(parts.mean.mean(0), action[0, 0], atol=0.08)
    assert float(parts.log_std.mean()) < -3.3


# ------------------------------------------------------------------------------------------------ the update


@pytest.mark.parametrize("backbone", ["mlp", "dit"])
def test_sigma_as_a_parameter_is_the_same_everywhere_and_learns(backbone):
    cfg = changed(TINY, {"actor": {"sigma": "parameter", "backbone": backbone}})
    before, after = state(cfg), updated(cfg)[0]
    noise, obs = jax.random.normal(jax.random.key(2), (2, 20, 3))

    def spread(s):
        return jax.vmap(lambda o, e: policy.component(cfg, s.actor, o, e).log_std)(obs, noise[:, :2])

    assert bool((spread(before) == cfg.actor.log_std_initial).all())
    assert bool((spread(after) == spread(after)[0]).all())
    assert bool((spread(after) != spread(before)).all())
    assert float(spread(updated(TINY)[0]).std(0).min()) > 0  # unlike an output of the network


OPTIONS = [
    (TINY, {"actor": {"backbone": "dit"}}),
    (TINY, {"actor": {"batch_size": 8}, "mirror": {"batch_size": 5}}),
    (TINY, {"actor": {"samples": 2}}),
    (SOFT, {"actor": {"samples": 4}}),
    (SOFT, {"entropy": {"components": 1}}),
    (TINY, {"mirror": {"source": "candidates"}}),
    (TINY, {"actor": {"output": "residual"}}),
    (TINY, {"actor": {"bound": "tanh"}}),
    (SOFT, {"actor": {"bound": "tanh"}}),
    (GUESSED, {"actor": {"bound": "tanh"}}),
    (TINY, {"actor": {"sigma": "parameter"}}),
    (TINY, {"actor": {"backbone": "dit", "sigma": "parameter"}}),
    (TINY, {"actor": {"max_grad_norm": 1e-3}}),
    (TINY, {"actor": {"candidates": 1}}),
    (TINY, {"critic": {"momentum": 0.5}}),
    (TINY, {"critic": {"warm_up": 0}}),
    (TINY, {"mirror": {"weight": 0.0}}),
    (TINY, {"mirror": {"source": "best"}}),
    (TINY, {"mirror": {"weights": "uniform"}}),
    (TINY, {"mirror": {"gamma": 1.0}}),
    (TINY, {"mirror": {"limit": 0.5}}),
    (TINY, {"entropy": {"target_std": 0.9}}),
    (TINY, {"entropy": {"kind": "dual"}}),
    (SOFT, {"entropy": {"noise": "antithetic"}}),
    (SOFT, {"entropy": {"noise": "stratified"}}),
    (SOFT, {"entropy": {"soft_backup": False}}),
    (SOFT, {"temperature": {"automatic": True}}),
    (SOFT, {"entropy": {"proposal": "learned"}}),
    (SOFT, {"temperature": {"anneal_updates": 100}}),
]


@few(("base", "changes"), OPTIONS, ids=[str(changes) for _, changes in OPTIONS])
def test_every_option_changes_what_an_update_computes(base, changes):
    cfg = changed(base, changes)
    assert program(learner.update, cfg, state(cfg), batch()) != plain_program(base)


@cache
def plain_program(cfg):
    return program(learner.update, cfg, state(cfg), batch())


@pytest.mark.slow
@pytest.mark.parametrize(("base", "changes"), OPTIONS, ids=[str(changes) for _, changes in OPTIONS])
def test_every_option_changes_the_networks(base, changes):
    plain, (other, metrics) = updated(base, 2)[0], updated(changed(base, changes), 2)
    ours, theirs = ((s.nets, s.critics.online, s.temperature) for s in (plain, other))
    assert len(jax.tree.leaves(ours)) != len(jax.tree.leaves(theirs)) or not same(ours, theirs)
    assert all(np.isfinite(float(m)) for m in metrics.values())


@pytest.mark.parametrize("scale", [0.005, 30.0])
def test_rewards_times_a_factor_leave_the_gradient_but_for_that_factor(scale):
    """Q, alpha and the weight of the bound times c: the loss's gradient times c, lambda as it is."""
    s, b = state(), batch()
    numbers = learner.samples(TINY, s, 16, 2)

    def gradient(c):
        cfg = changed(TINY, {"actor.bound_weight": c * TINY.actor.bound_weight, "entropy.target_std": 0.9})

        def q(obs, a):
            return c * q_of(s)(obs, a)

        drawn, _ = learner.candidates(cfg, s, q, b.obs)
        regress, _ = learner.mirror_loss(cfg, s, q, b.obs, b.action, drawn)
        return jax.grad(lambda nets: learner.loss(nets, cfg, q, c * 0.2, b.obs, numbers, regress)[0])(
            s.nets.params
        )

    whole, part = jax.jit(gradient, static_argnums=0)(1.0), jax.jit(gradient, static_argnums=0)(scale)
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_allclose(scale * left, right, rtol=1e-3, atol=1e-5 * scale)


def test_an_annealed_temperature_starts_high_and_ends_at_its_value():
    cfg = changed(SOFT, {"temperature": {"initial": 0.1, "anneal_factor": 8.0, "anneal_updates": 300}})
    alphas = [
        float(learner.alpha_of(cfg, replace(state(cfg), updates=jnp.int32(n)))) for n in (0, 100, 300, 999)
    ]
    np.testing.assert_allclose(alphas, [0.8, 0.4, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(float(updated(cfg)[1]["temperature/alpha"]), 0.8, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "target"), [("semi_implicit", -2.0), ("dual", 2 * np.log(0.0033) + np.log(2 * np.pi * np.e))]
)
def test_what_an_adjusted_temperature_steers_to(kind, target):
    cfg = changed(TINY, {"entropy": {"kind": kind}})
    np.testing.assert_allclose(learner.target_entropy(cfg, 2), target, rtol=1e-5)


@pytest.mark.parametrize(
    ("base", "changes", "adjusted"),
    [
        (TINY, {}, False),
        (TINY, {"entropy.kind": "dual"}, True),
        (SOFT, {}, False),
        (SOFT, {"temperature.automatic": True}, True),
    ],
    ids=["hinge", "dual", "fixed", "automatic"],
)
def test_which_temperatures_are_adjusted(base, changes, adjusted):
    s, metrics = updated(changed(base, changes), 2)
    assert (float(s.temperature.alpha) != float(jnp.exp(jnp.log(jnp.float32(0.2))))) == adjusted
    assert ("temperature/loss" in metrics) == adjusted


def test_no_two_uses_share_a_key():
    s = state()
    keys = {tuple(np.asarray(jax.random.key_data(use_key(s, use)))) for use in learner.Use}
    later = replace(s, updates=s.updates + 1)
    keys |= {tuple(np.asarray(jax.random.key_data(use_key(later, use)))) for use in learner.Use}
    assert len(keys) == 2 * len(learner.Use)


@pytest.mark.parametrize(
    "changes",
    [
        {"actor.hidden": (8, 16), "actor.backbone": "dit"},
        {"actor.log_std_min": -2.0},
        {"actor.samples": 0},
        {"actor.candidates": 0},
        {"actor.bound_weight": -1.0},
        {"mirror.weight": -1.0},
        {"mirror.candidates": 0},
        {"mirror.candidates": 1, "mirror.source": "best"},
        {"mirror.gamma": 1.1},
        {"mirror.limit": 0.0},
        {"entropy.target_std": 0.0},
        {"entropy.components": -1},
        {"entropy.noise": "antithetic"},  # one sample, one noise
        {"entropy.noise": "antithetic", "entropy.kind": "semi_implicit", "entropy.components": 8},
        {
            "entropy.noise": "antithetic",
            "entropy.kind": "semi_implicit",
            "entropy.components": 2,
            "actor.samples": 3,
        },
        {"entropy.components": 2, "entropy.kind": "semi_implicit", "actor.samples": 4},
        {"entropy.soft_backup": True},
        {"entropy.proposal": "learned"},
        {"temperature.anneal_factor": 0.0},
        {"temperature.anneal_updates": -1},
        {"temperature.anneal_updates": 10, "entropy.kind": "dual"},
        {"temperature.automatic": True},
        {"discount": 1.01},
    ],
    ids=str,
)
def test_impossible_settings_are_refused_in_one_line(changes):
    with pytest.raises(UsageError, match=next(iter(changes)).split(".")[-1]) as caught:
        changed(TINY, changes)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------- targets known exactly


def improve(cfg, q, rounds, states=32, key=0):
    """Train the policy side alone on a given value."""

    @jax.jit
    def run(s):
        def one(s, _):
            obs, unused = jnp.ones((states, 3)), jnp.zeros((states, 2))
            s, metrics = learner.improve(cfg, s, q, obs, unused)
            return replace(s, updates=s.updates + 1), metrics

        return jax.lax.scan(one, s, length=rounds)

    return run(state(cfg, seed=key))


def actions_of(cfg, s, count=4000):
    act = jax.jit(lambda p, o, k: ALGORITHM.act(cfg, p, o, k, ActionMode()))
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
