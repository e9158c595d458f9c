"""The shared critic: trunk x head x target rule, its targets by hand, what moves when, its gradients."""

from dataclasses import replace
from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.critics import categorical
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.critics.heads import combine, td_target
from fewstep.errors import UsageError
from fewstep.types import Spec
from tests.algos.common import assert_close, batch, reached, same
from tests.critics.reference import expected
from tests.few import slow

SPEC, DISCOUNT = Spec(3, 2), 0.9
TRUNKS, HEADS = ("mlp", "layernorm", "crossq"), ("scalar", "categorical", "gaussian")
BONUS = jnp.linspace(-1.0, 2.0, 16)
NEXT_ACTION = 0.1 * batch(seed=5).action + 0.8


def config(**changes):
    """Networks of two layers; the categorical head not uniform, where all would be alike."""
    small = CriticConfig(hidden=(16, 16), atoms=11, v_min=-3.0, v_max=5.0, head_init="random")
    return replace(small, **changes)


@partial(jax.jit, static_argnums=0)
def fit(cfg, critics, b, next_action, bonus, updates=0):
    return critics.fit(cfg, DISCOUNT, jnp.int32(updates), b, next_action, bonus)


@cache
def started(cfg, seed=0):
    """Fresh critics whose target networks, spreads and statistics are not what they began with."""
    keys = jax.random.split(jax.random.key(seed), cfg.ensemble)
    critics = Critics.create(cfg, SPEC, *keys)
    if cfg.target == "polyak":
        other = jax.random.split(jax.random.key(seed + 100), cfg.ensemble)
        critics = replace(critics, target=Critics.create(cfg, SPEC, *other).online.params)
    moved = jax.tree.map(lambda x: x + 0.1 if x.dtype == jnp.float32 else x, critics.stats)
    return replace(critics, stats=moved, spread=critics.spread * jnp.linspace(0.5, 1.5, len(critics.spread)))


def names(cfg):
    parts = (cfg.trunk, cfg.head, cfg.ensemble, cfg.reduce, cfg.target, f"scale-{cfg.reward_scale:g}")
    return "-".join(map(str, parts))


# -------------------------------------------------------------------------------- the regression

EVERY = [
    config(trunk=trunk, head=head, target="none" if trunk == "crossq" else "polyak")
    for trunk, head in product(TRUNKS, HEADS)
]
ENSEMBLES = [
    config(head=head, ensemble=size, reduce=reduce)
    for head, (size, reduce) in product(HEADS, [(1, "min"), (5, "min"), (5, "mean")])
]
OTHERS = [
    *(config(head=head, reward_scale=0.5) for head in HEADS),
    config(trunk="crossq", target="polyak"),
    config(trunk="crossq", head="categorical", ensemble=3, reduce="mean", target="polyak"),
    config(trunk="layernorm", target="none"),
    config(trunk="xqc", head="categorical"),
    config(trunk="flash", head="categorical"),
]


FIRST = [
    config(),
    config(trunk="layernorm", head="categorical"),
    config(trunk="crossq", head="gaussian", target="none"),
    config(trunk="crossq", head="categorical", ensemble=3, reduce="mean"),
    config(head="gaussian", reward_scale=0.5),
]


@pytest.mark.parametrize(
    "cfg",
    FIRST + slow(*(cfg for cfg in EVERY + ENSEMBLES + OTHERS if cfg not in FIRST), ids=names),
    ids=names,
)
def test_the_step_is_the_one_written_out_by_hand(cfg):
    """Loss, values and targets of a batch with terminal states; metrics stay in reward units."""
    critics, b = started(cfg), batch()
    wanted, _ = expected(cfg, DISCOUNT, critics, b, NEXT_ACTION, BONUS)
    _, metrics = fit(cfg, critics, b, NEXT_ACTION, BONUS)
    assert metrics.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("cfg", [config(), config(head="categorical")], ids=names)
def test_no_bonus_is_a_bonus_of_zero(cfg):
    without = fit(cfg, started(cfg), batch(), NEXT_ACTION, None)
    assert_close(without, fit(cfg, started(cfg), batch(), NEXT_ACTION, jnp.zeros(16)))


@pytest.mark.parametrize("head", ["scalar", *slow("categorical", "gaussian")])
def test_a_scale_of_rewards_is_one_of_rewards_alone(head):
    """Like rewards multiplied beforehand, metrics included: they are in the units of the product."""
    cfg, b = config(head=head, reward_scale=0.25), batch()
    scaled, metrics = fit(cfg, started(cfg), b, NEXT_ACTION, BONUS)
    by_hand, plain = fit(
        config(head=head), started(cfg), b._replace(reward=0.25 * b.reward), NEXT_ACTION, BONUS
    )
    assert_close(scaled, by_hand)
    assert_close(metrics, plain)


@pytest.mark.parametrize("head", HEADS)
def test_only_a_terminal_state_stops_the_bootstrap(head):
    """A terminal row regresses on its reward, whatever its successor; another on r + gamma (Q + bonus)."""
    made = config(head=head, atoms=257, v_min=-32.0, v_max=32.0).made_head
    nxt = jax.random.normal(jax.random.key(0), (2, made.outputs))
    q = combine([made.value(out) for out in nxt], "min")
    for terminated, value in ((True, 0.5), (False, 0.5 + 0.9 * (q + 2.0))):
        target = made.target(jnp.float32(0.5), jnp.array(terminated), 0.9, jnp.float32(2.0), nxt)
        np.testing.assert_allclose(made.target_value(target), value, rtol=1e-4, atol=1e-4)
    assert td_target(jnp.float32(0.5), jnp.array(True), 0.9, jnp.float32(4.0)) == 0.5
    assert td_target(jnp.float32(0.5), jnp.array(False), 0.9, jnp.float32(4.0)) == 0.5 + 0.9 * 4.0


@pytest.mark.parametrize("trunk", ["mlp", *slow("layernorm")])
@pytest.mark.parametrize("head", HEADS)
def test_the_successor_of_a_terminal_state_is_not_looked_at(trunk, head):
    cfg, b = config(trunk=trunk, head=head), batch()
    ended = b._replace(terminated=jnp.ones(16, bool))
    elsewhere = ended._replace(next_obs=b.next_obs + 7.0)
    one, two = (
        fit(cfg, started(cfg), ended, NEXT_ACTION, BONUS),
        fit(cfg, started(cfg), elsewhere, -NEXT_ACTION, BONUS + 3.0),
    )
    for metrics in (one[1], two[1]):
        metrics.pop("critic/target_saturated_share", None)
    assert_close(one, two)
    assert not same(fit(cfg, started(cfg), b, NEXT_ACTION, BONUS)[0], one[0])


def test_the_lowest_mean_wins_as_a_whole_distribution():
    """Not the minimum atom by atom: a wide member of high mean leaves no trace."""
    made = config(head="categorical", ensemble=3).made_head
    nxt = jax.random.normal(jax.random.key(1), (3, 11))
    step = (jnp.float32(0.0), jnp.array(False), 1.0, jnp.float32(0.0))
    target, _ = made.target(*step, nxt)
    lowest = int(np.argmin([made.value(out) for out in nxt]))
    np.testing.assert_allclose(target, jax.nn.softmax(nxt[lowest]), atol=1e-6)
    np.testing.assert_allclose(
        replace(made, reduce="mean").target(*step, nxt)[0], jax.nn.softmax(nxt).mean(0), atol=1e-6
    )


def test_the_gaussian_target_has_the_spread_of_the_member_it_takes_its_mean_from():
    made = config(head="gaussian").made_head
    nxt = jnp.array([[1.0, 3.0], [-1.0, -2.0], [0.0, 0.5]])
    mean, std = made.target(jnp.float32(0.5), jnp.array(False), 0.9, jnp.float32(0.0), nxt)
    np.testing.assert_allclose([mean, std], [0.5 - 0.9, 0.9 * np.log1p(np.exp(-2.0))], rtol=1e-5)
    averaged = replace(made, reduce="mean").target(
        jnp.float32(0.5), jnp.array(False), 0.9, jnp.float32(0.0), nxt
    )
    np.testing.assert_allclose(averaged, [0.5, 0.9 * np.log1p(np.exp([3.0, -2.0, 0.5])).mean()], rtol=1e-5)
    assert float(made.target(jnp.float32(0.5), jnp.array(True), 0.9, jnp.float32(0.0), nxt)[1]) == 0.0


# -------------------------------------------------------------------------------- what is differentiated


@pytest.mark.parametrize(
    "cfg",
    [
        config(head="gaussian", target="none"),
        config(trunk="crossq", head="categorical"),
        config(trunk="xqc", head="categorical"),
        *slow(
            config(),
            config(trunk="layernorm", head="categorical"),
            config(trunk="crossq", target="none"),
            config(trunk="flash", head="categorical"),
            ids=names,
        ),
    ],
    ids=names,
)
def test_the_loss_reaches_the_trained_networks_alone(cfg):
    """Not the target networks, the bonus (actor, temperature), nor, row by row, the successor's action.

    In a joint batch the successor's action enters the statistics that (s, a) is normalised by.
    """
    critics, b = started(cfg), batch()

    def loss(groups):
        online = replace(critics.online, params=groups["nets"])
        changed = replace(critics, online=online, target=groups["target"], spread=groups["spread"])
        return changed.fit(cfg, DISCOUNT, jnp.int32(0), b, groups["next_action"], groups["bonus"])[1][
            "critic/loss"
        ]

    groups = {
        "nets": critics.online.params,
        "target": critics.target,
        "bonus": BONUS,
        "next_action": NEXT_ACTION,
    }
    groups["spread"] = critics.spread
    scale = {"spread"} if cfg.head == "gaussian" else set()
    joint = {"next_action"} if any(critics.stats) else set()
    assert reached(loss, groups) == {"nets"} | joint | scale


@pytest.mark.parametrize("trunk", ["mlp", "crossq", *slow("layernorm")])
def test_without_target_networks_no_gradient_goes_through_the_target_either(trunk):
    """The step is that of a regression on the numbers that the target has."""
    cfg = config(trunk=trunk, target="none")
    critics, b = started(cfg), batch()
    _, target = expected(cfg, DISCOUNT, critics, b, NEXT_ACTION, BONUS)

    def frozen(nets):
        if trunk == "crossq":
            rows = jnp.concatenate([jnp.hstack([b.obs, b.action]), jnp.hstack([b.next_obs, NEXT_ACTION])])
            q = [net.train(seen, rows)[0][:16, 0] for net, seen in zip(nets, critics.stats, strict=True)]
        else:
            q = [jax.vmap(lambda s, a, net=net: net(s, a)[0])(b.obs, b.action) for net in nets]
        return 0.5 * sum(jnp.mean((row - target) ** 2) for row in q)

    stepped = critics.online.step(cfg, jax.jit(jax.grad(frozen))(critics.online.params))
    assert_close(fit(cfg, critics, b, NEXT_ACTION, BONUS)[0].online.moments, stepped.moments, rtol=1e-3)


def test_each_member_is_trained_by_its_own_error_only():
    """Another second member changes nothing in the first one's step, as long as the target is the same."""
    cfg = config()
    one, other = started(cfg), started(cfg, seed=9)
    mixed = (one.online.params[0], other.online.params[1])
    left = fit(cfg, one, batch(), NEXT_ACTION, BONUS)[0]
    right = fit(cfg, replace(one, online=replace(one.online, params=mixed)), batch(), NEXT_ACTION, BONUS)[0]
    assert_close(left.online.params[0], right.online.params[0])
    assert not same(left.online.params[1], right.online.params[1])


# -------------------------------------------------------------------------------- target networks


@pytest.mark.parametrize("trunk", ["mlp", *slow("layernorm", "crossq")])
@pytest.mark.parametrize("tau", [0.25, *slow(0.0, 1.0)])
def test_target_networks_follow_the_new_networks_at_tau(trunk, tau):
    cfg = config(trunk=trunk, tau=tau)
    before = started(cfg)
    after, _ = fit(cfg, before, batch(), NEXT_ACTION, BONUS)
    mixed = jax.tree.map(lambda new, old: tau * new + (1 - tau) * old, after.online.params, before.target)
    assert_close(after.target, mixed)


@pytest.mark.parametrize("head", ["scalar", *slow("gaussian")])
def test_target_networks_move_at_every_target_delay_th_update(head):
    cfg = config(head=head, target_delay=3)
    critics = started(cfg)
    moved = [
        not same(critics.target, fit(cfg, critics, batch(), NEXT_ACTION, BONUS, updates)[0].target)
        for updates in range(7)
    ]
    assert moved == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("trunk", ["mlp", *slow("layernorm", "crossq")])
def test_without_a_target_rule_there_are_no_target_networks(trunk):
    cfg = config(trunk=trunk, target="none")
    after = fit(cfg, started(cfg), batch(), NEXT_ACTION, BONUS)[0]
    assert after.target == ()
    assert same(after.target_ensemble, after.online_ensemble)


def test_target_networks_start_as_copies_and_members_differ():
    critics = Critics.create(config(), SPEC, *jax.random.split(jax.random.key(0)))
    assert same(critics.target, critics.online.params)
    assert not same(*critics.online.params)


@pytest.mark.parametrize("trunk", ["mlp", "crossq", *slow("layernorm")])
def test_what_ranks_actions_is_the_target_network_unless_it_is_batch_normalised(trunk):
    """Running statistics are the trained networks' own, so with them it is those that judge."""
    cfg = config(trunk=trunk)
    critics = fit(cfg, started(cfg), batch(), NEXT_ACTION, BONUS)[0]
    judged = critics.online.params if trunk == "crossq" else critics.target
    assert critics.target_ensemble.nets is judged
    values = [
        critics.target_q(cfg)(batch().obs[0], batch().action[0]),
        critics.q(cfg)(batch().obs[0], batch().action[0]),
    ]
    assert (float(values[0]) == float(values[1])) == (trunk == "crossq")


# -------------------------------------------------------------------------------- values


@pytest.mark.parametrize("reduce", ["min", "mean"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_value_of_an_action_is_the_lowest_or_the_mean_of_all(head, size, reduce):
    cfg = config(head=head, ensemble=size, reduce=reduce)
    critics = started(cfg)
    s, a = batch().obs[0], batch().action[0]
    values = critics.online_ensemble.values(cfg, s, a)
    assert len(values) == size
    np.testing.assert_allclose(
        critics.q(cfg)(s, a), min(values) if reduce == "min" else np.mean(values), rtol=1e-5
    )
    assert float(critics.first_q(cfg)(s, a)) == float(values[0])


@pytest.mark.parametrize(("init", "value"), [("zeros", 350.0), ("origin", 0.0)])
def test_where_a_categorical_head_starts_on_a_lopsided_grid(init, value):
    cfg = config(head="categorical", atoms=101, v_min=-100.0, v_max=800.0, head_init=init)
    q = Critics.create(cfg, SPEC, *jax.random.split(jax.random.key(0))).q(cfg)
    for s, a in zip(batch().obs[:3], batch().action[:3], strict=True):
        assert abs(float(q(s, a)) - value) < 0.5


# -------------------------------------------------------------------------- several successor actions

SEVERAL = jnp.stack([NEXT_ACTION, -NEXT_ACTION, 0.3 * NEXT_ACTION], axis=1)


@pytest.mark.parametrize("trunk", ["mlp", "layernorm"])
def test_the_target_of_several_successor_actions_is_the_mean_of_theirs(trunk):
    """Expected SARSA: the twins' minimum of each action first, then the mean over actions."""
    cfg, b = config(trunk=trunk), batch()
    critics = started(cfg)
    each = [expected(cfg, DISCOUNT, critics, b, SEVERAL[:, k], BONUS)[1] for k in range(3)]
    target = np.mean(each, axis=0)
    q = np.stack([jax.vmap(net)(b.obs, b.action)[:, 0] for net in critics.online.params])
    _, metrics = fit(cfg, critics, b, SEVERAL, BONUS)
    loss = 0.5 * ((q - target) ** 2).mean(axis=1).sum()
    np.testing.assert_allclose(metrics["critic/loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["critic/q_std"], target.std(), rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_several_equal_successor_actions_are_one(head):
    cfg = config(head=head)
    one = fit(cfg, started(cfg), batch(), NEXT_ACTION, BONUS)
    for copies in (1, 4):
        same_ones = jnp.repeat(NEXT_ACTION[:, None], copies, axis=1)
        assert_close(fit(cfg, started(cfg), batch(), same_ones, BONUS), one, rtol=1e-4, atol=1e-5)


def test_targets_of_several_actions_are_mixed_as_distributions():
    """Of a categorical head their mean; of Gaussians the mixture's first two moments, here by draws."""
    rows = jax.nn.softmax(jax.random.normal(jax.random.key(0), (3, 11)))
    mixture, share = config(head="categorical").made_head.mixed((rows, jnp.array([0.0, 0.1, 0.5])))
    np.testing.assert_allclose(mixture, np.asarray(rows).mean(0), rtol=1e-6)
    assert float(share) == pytest.approx(0.2)
    means, stds = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.0, 0.7])
    draws = means + stds * np.random.default_rng(0).normal(size=(200_000, 3))
    found = config(head="gaussian").made_head.mixed((jnp.asarray(means), jnp.asarray(stds)))
    np.testing.assert_allclose(found, [draws.mean(), draws.std()], rtol=0.01, atol=0.005)


def test_a_joint_batch_has_all_successor_actions():
    """Statistics and values of one training forward of (s, a) and of every (s', a')."""
    cfg, b = config(trunk="crossq", target="none"), batch()
    critics = started(cfg)
    after, metrics = fit(cfg, critics, b, SEVERAL, BONUS)
    ahead = jnp.hstack([jnp.repeat(b.next_obs, 3, axis=0), SEVERAL.reshape(48, 2)])
    rows = jnp.concatenate([jnp.hstack([b.obs, b.action]), ahead])
    outs = []
    for net, before, found in zip(critics.online.params, critics.stats, after.stats, strict=True):
        out, stats = net.train(before, rows)
        outs.append(np.asarray(out)[:, 0])
        assert_close(found, stats)
    value = np.min(outs, axis=0)[16:].reshape(16, 3).mean(axis=1)
    target = b.reward + DISCOUNT * (1.0 - b.terminated) * (value + BONUS)
    loss = 0.5 * ((np.stack(outs)[:, :16] - np.asarray(target)) ** 2).mean(axis=1).sum()
    np.testing.assert_allclose(metrics["critic/loss"], loss, rtol=1e-4)


# -------------------------------------------------------------------------------- batch statistics


def joint_rows(b, next_action):
    return jnp.concatenate([jnp.hstack([b.obs, b.action]), jnp.hstack([b.next_obs, next_action])])


def swapped(b, next_action):
    return b._replace(obs=b.next_obs, action=next_action, next_obs=b.obs), b.action


@pytest.mark.parametrize(
    ("target", "head"),
    [("none", "categorical"), ("polyak", "scalar"), *slow(*product(["none", "polyak"], HEADS))],
)
def test_statistics_see_one_joint_batch_per_update(head, target):
    """As one training forward of both pairs leaves them; what target networks see leaves no trace."""
    cfg, b = config(trunk="crossq", head=head, target=target), batch()
    critics = started(cfg)
    after, _ = fit(cfg, critics, b, NEXT_ACTION, BONUS)
    rows = joint_rows(b, NEXT_ACTION)
    for net, before, found in zip(critics.online.params, critics.stats, after.stats, strict=True):
        assert_close(found, net.train(before, rows)[1])
        assert [int(layer.batches) for layer in found] == [1, 1, 1]
        np.testing.assert_allclose(found[0].mean, 0.99 * 0.1 + 0.01 * rows.mean(0), rtol=1e-4, atol=1e-6)


def test_swapping_the_two_pairs_swaps_their_values_and_keeps_the_statistics():
    cfg, b = config(trunk="crossq", target="none", reward_scale=1.0), batch()
    critics = started(cfg)
    left, metrics = fit(cfg, critics, b, NEXT_ACTION, BONUS)
    right, mirrored = fit(cfg, critics, *swapped(b, NEXT_ACTION), BONUS)
    assert_close(left.stats, right.stats)
    values = [
        net.train(seen, joint_rows(b, NEXT_ACTION))[0]
        for net, seen in zip(critics.online.params, critics.stats, strict=True)
    ]
    np.testing.assert_allclose(
        metrics["critic/q_mean"], np.mean([v[:16] for v in values]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        mirrored["critic/q_mean"], np.mean([v[16:] for v in values]), rtol=1e-4, atol=1e-5
    )


def test_the_two_pairs_apart_would_be_normalised_differently():
    cfg, b = config(trunk="crossq", target="none"), batch()
    critics = started(cfg)
    _, metrics = fit(cfg, critics, b, NEXT_ACTION, BONUS)
    rows = jnp.hstack([b.obs, b.action])
    alone = [
        net.train(seen, rows)[0].mean()
        for net, seen in zip(critics.online.params, critics.stats, strict=True)
    ]
    assert abs(float(metrics["critic/q_mean"]) - np.mean(alone)) > 0.05


def test_evaluation_follows_the_running_statistics_and_sees_no_batch():
    cfg, b = config(trunk="crossq", target="none"), batch()
    before = started(cfg)
    after, _ = fit(cfg, before, b, NEXT_ACTION, BONUS)
    rows = jax.vmap(before.q(cfg))(b.obs, b.action)
    np.testing.assert_allclose(rows[0], before.q(cfg)(b.obs[0], b.action[0]), rtol=1e-5)
    elsewhere = jax.vmap(before.q(cfg))(b.obs.at[1:].set(100.0), b.action)
    np.testing.assert_allclose(elsewhere[0], rows[0], rtol=1e-5)
    moved = Ensemble(before.online.params, after.stats)
    assert float(moved.q(cfg)(b.obs[0], b.action[0])) != float(rows[0])


def test_the_spread_of_a_gaussian_head_is_a_running_mean_per_member():
    cfg, b = config(head="gaussian", tau=0.25), batch()
    before = started(cfg)
    after, _ = fit(cfg, before, b, NEXT_ACTION, BONUS)
    stds = [np.log1p(np.exp(jax.vmap(net)(b.obs, b.action)[:, 1])).mean() for net in before.online.params]
    np.testing.assert_allclose(after.spread, 0.75 * before.spread + 0.25 * np.asarray(stds), rtol=1e-5)
    assert started(config()).spread.shape == (0,)


# -------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", ()),
        ("hidden", (0,)),
        ("ensemble", 0),
        ("tau", 1.5),
        ("tau", -0.1),
        ("target_delay", 0),
        ("reward_scale", 0.0),
        ("atoms", 1),
        ("v_min", 5.0),
        ("v_max", np.inf),
        ("momentum", 1.0),
        ("warm_up", -1),
        ("b1", 1.0),
        ("learning_rate", 0.0),
    ],
)
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name) as caught:
        config(**{name: value})
    assert "\n" not in str(caught.value)


def test_a_narrow_start_around_zero_needs_a_grid_with_zero():
    with pytest.raises(UsageError, match="origin needs a grid that holds the return 0"):
        config(head="categorical", head_init="origin", v_min=1.0)
    assert config(head="categorical", head_init="zeros", v_min=1.0).v_min == 1.0


def test_the_grid_of_a_categorical_head_is_that_of_its_settings():
    np.testing.assert_array_equal(
        config(head="categorical").made_head.grid, categorical.support(-3.0, 5.0, 11)
    )
