"""The trunks ``xqc`` and ``flash`` in the shared critic: what is projected, what targets see, the start."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.sac import SACConfig
from fewstep.critics import categorical
from fewstep.critics.ensemble import Critics
from fewstep.errors import UsageError
from tests.algos.common import assert_close, batch, changed
from tests.critics.test_ensemble import BONUS, NEXT_ACTION, SPEC, config, fit, started
from tests.equations.test_unit_nets import check_units

TRUNKS = pytest.mark.parametrize("trunk", ["xqc", "flash"])
KEYS = jax.random.split(jax.random.key(0))


def categorical_critic(trunk, **more):
    return config(trunk=trunk, head="categorical", **more)


def columns(net):
    return np.linalg.norm(net.head.weight, axis=0)


@TRUNKS
def test_networks_are_projected_after_every_step_and_their_averages_are_not(trunk):
    cfg = categorical_critic(trunk)
    before = started(cfg)
    after, _ = fit(cfg, before, batch(), NEXT_ACTION, BONUS)
    for net in (*before.online.params, *after.online.params):
        check_units(net)
    mixed = jax.tree.map(lambda new, old: 0.005 * new + 0.995 * old, after.online.params, before.target)
    assert_close(after.target, mixed)
    assert np.abs(columns(after.target[0]) - 1.0).max() > 1e-6


@TRUNKS
def test_targets_do_not_depend_on_running_statistics(trunk):
    """Both networks see the batch; what values actions afterwards does not."""
    cfg, b = categorical_critic(trunk), batch()
    critics = started(cfg)
    elsewhere = replace(critics, stats=jax.tree.map(lambda s: 3 * s, critics.stats))
    (one, metrics), (other, same) = (fit(cfg, c, b, NEXT_ACTION, BONUS) for c in (critics, elsewhere))
    assert_close(metrics, same)
    assert_close(one.target, other.target)
    assert critics.target_ensemble.nets is critics.online.params
    values = [c.q(cfg)(b.obs[0], b.action[0]) for c in (critics, elsewhere)]
    assert abs(float(values[0]) - float(values[1])) > 1e-4


@TRUNKS
@pytest.mark.parametrize("head_init", ["zeros", "origin", "random"])
def test_a_head_of_unit_norm_starts_by_its_bias_alone(trunk, head_init):
    cfg = categorical_critic(trunk, head_init=head_init, atoms=51)
    for net in Critics.create(cfg, SPEC, *KEYS).online.params:
        check_units(net)
        around = categorical.logits_around_zero(cfg.made_head.grid)
        np.testing.assert_array_equal(net.head.bias, around if head_init == "origin" else 0.0)


@pytest.mark.parametrize(("trunk", "head"), [("xqc", "gaussian"), ("flash", "scalar")])
def test_the_head_of_a_number_is_not_projected(trunk, head):
    """Or it could not reach every return."""
    cfg = config(trunk=trunk, head=head)
    critics = started(cfg)
    far = replace(
        critics,
        online=replace(
            critics.online,
            params=tuple(
                replace(net, head=replace(net.head, weight=50.0 * net.head.weight))
                for net in critics.online.params
            ),
        ),
    )
    after, _ = fit(cfg, far, batch(), NEXT_ACTION, BONUS)
    for net in after.online.params:
        check_units(net, head=False)
        assert columns(net).min() > 40.0


def test_blocks_of_unequal_width_are_refused_in_one_line():
    with pytest.raises(UsageError, match=r"hidden must be one width.*flash.*\[256, 128\]") as caught:
        config(trunk="flash", hidden=(256, 128))
    assert "\n" not in str(caught.value)
    assert config(trunk="xqc", hidden=(256, 128)).hidden == (256, 128)


@TRUNKS
def test_the_initialiser_is_the_published_one_whatever_is_set(trunk):
    nets = [
        Critics.create(categorical_critic(trunk, init=init), SPEC, *KEYS).online.params
        for init in ("lecun_normal", "zeros")
    ]
    assert_close(*nets)
    hidden = nets[0][0].layers[1] if trunk == "xqc" else nets[0][0].blocks[0][1]
    gram = hidden.kernel.weight.T @ hidden.kernel.weight
    np.testing.assert_allclose(gram, jnp.eye(16), atol=1e-5)


@pytest.mark.parametrize("section", ["actor", "critic"])
def test_the_message_names_the_section(section):
    with pytest.raises(UsageError, match=rf"^{section}.hidden must be one width"):
        changed(SACConfig(), {f"{section}.trunk": "flash", f"{section}.hidden": (256, 128)})
