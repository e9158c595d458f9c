"""The counted operations against hand arithmetic, against XLA's own count, and against a published figure."""

import jax
import numpy as np
import pytest

from fewstep import config
from fewstep.algos import registry
from fewstep.bench import floor
from fewstep.bench.gemms import Perceptron, Residual
from fewstep.bench.peak import gemm_rate
from fewstep.errors import UsageError
from fewstep.types import Spec, Transition
from tests.few import few

HALF_CHEETAH, HUMANOID = Spec(17, 6), Spec(376, 17)


def preset(algo, name, **settings):
    overrides = {key.replace("__", "."): value for key, value in settings.items()}
    entry = registry.get(algo)
    return config.resolve(
        algo, entry.config, env="HalfCheetah-v4", preset=name, overrides=overrides
    ).algorithm


def test_a_perceptron_by_hand():
    net = Perceptron(state=3, own=2, hidden=(5, 7), outputs=1, conditions=4)
    behind = 5 * 7 + 7 * 1
    assert net.forward(10, 40) == 2 * (10 * 3 * 5 + 40 * (2 * 5 + behind))
    assert net.tangent(40) == 2 * 40 * (2 * 5 + behind)
    assert net.input_gradient(40, wanted=2) == 2 * 40 * (behind + 2 * 5)
    assert net.training(40, 40) == 2 * net.forward(40, 40) + 2 * 40 * behind
    assert net.forward(10, 40, own_conditions=True) == net.forward(10, 40) + 2 * 40 * 4 * 5


def test_a_residual_network_takes_the_cheaper_way_by_hand():
    """Width 4, two blocks of inner width 16; either way its skip connections cost no products."""
    net = Residual(state=3, own=2, hidden=(4, 16, 4, 16, 4), outputs=1)
    behind = 3 * 4 * 16 + 4
    one_by_one = 3 * 4 + 2 * 4 + 4 * 16 + behind
    assert net.forward(10, 10) == 2 * 10 * one_by_one
    assert net.forward(1, 100) == 2 * (3 * 4 + 4 * 16 + 2 * 4 * 16 + 100 * (2 * 4 + 2 * 16 + behind))
    assert net.training(10, 10) == 2 * 10 * (3 * one_by_one - 5 * 4)
    assert net.pathwise(10, 10) == 2 * 10 * (one_by_one + behind + 2 * 16 + 2 * 4)


@pytest.mark.parametrize(
    ("trunk", "hidden", "batch", "target", "online"),
    [("xqc", (512,) * 4, 256, 870, 2599), ("flash", (256, 256), 512, 2212, 6625)],
)
def test_the_critics_of_xqc_and_flashsac(trunk, hidden, batch, target, online):
    """Millions of multiply-adds of both critics' update on HalfCheetah, counted apart from this code.

    There all rows reach the last layer's gradient; the loss sees one half of them."""
    cfg = preset(
        "sac", "small", critic__trunk=trunk, critic__hidden=hidden, critic__head="categorical"
    ).critic
    net = floor.critic_network(cfg, HALF_CHEETAH)
    assert int(2 * net.forward(2 * batch, 2 * batch) / 2e6) == target
    assert round(2 * net.training(2 * batch, 2 * batch) / 2e6) == online
    unseen = 2 * 2 * batch * hidden[-1] * 101 / 1e6
    counted = floor.temporal_difference(cfg, HALF_CHEETAH, batch) / 2e6
    assert abs(counted - (target + online - unseen)) < 1.0


@pytest.mark.parametrize(("spec", "giga"), [(HALF_CHEETAH, 14.1), (Spec(27, 8), 14.2), (HUMANOID, 15.6)])
def test_mfpo_at_the_authors_sizes(spec, giga):
    """An independent count gave these; it has derivatives where r = t and of the inputs, so it is larger."""
    assert 0.95 < floor.operations(preset("mfpo", "authors"), spec, 256) / 1e9 / giga < 1.0


def xla_count(algo, cfg, spec, batch):
    """Operations that XLA counts in the program as written, before it optimises anything."""
    entry = registry.get(algo)
    state = jax.eval_shape(lambda key: entry.init(cfg, spec, key), jax.random.key(0))
    row = lambda *shape: jax.ShapeDtypeStruct((batch, *shape), np.float32)  # noqa: E731
    done = jax.ShapeDtypeStruct((batch,), np.bool_)
    number = jax.ShapeDtypeStruct((batch,), np.int32) if entry.numbered else None
    data = Transition(row(spec.obs_size), row(spec.act_size), row(), done, row(spec.obs_size), number)
    lowered = jax.jit(lambda s, d: entry.update(cfg, s, d)).lower(state, data)
    return lowered.cost_analysis()["flops"]


@few(
    ("algo", "name", "settings"),
    [
        ("sac", "small", {}),
        ("td3", "small", {"actor.delay": 1}),
        ("crossq", "small", {"actor.delay": 1}),
        ("sac", "small", {"critic.trunk": "xqc", "critic.head": "categorical"}),
        ("sac", "small", {"critic.trunk": "flash", "critic.head": "categorical"}),
        ("mdpo", "small", {}),
        ("mdpo", "small", {"actor.value": "first"}),
        ("mpo", "small", {"actor.delay": 1}),
        ("mpo", "small", {"actor.delay": 1, "improvement.samples": 2, "critic.trunk": "crossq"}),
        ("smfp", "small", {"actor.delay": 1}),
        ("smfp", "soft", {"actor.delay": 1}),
        # XLA counts what is inside of a loop once, so there is one step of each.
        ("qvpo", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("qsm", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("dipo", "small", {"actor.delay": 1, "actor.steps": 1, "relabel.steps": 1}),
        ("sdac", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("dpmd", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("fpmd", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("fpmd", "small-meanflow", {"actor.delay": 1}),
        ("flame", "small", {"actor.delay": 1, "entropy.intervals": 1}),
        ("flame", "small", {"actor.delay": 1, "entropy.intervals": 1, "actor.pathwise": 1.0}),
        ("flame", "small-rectified", {"actor.delay": 1, "actor.steps": 1, "entropy.intervals": 1}),
        ("som", "small", {"actor.delay": 1}),
        ("maxentdp", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("maxentdp", "small", {"actor.delay": 1, "actor.steps": 1, "regression.estimator": "idem"}),
        ("maxentdp", "small", {"actor.delay": 1, "actor.steps": 1, "regression.estimator": "qsm"}),
        ("dacer", "small", {"actor.delay": 1, "actor.steps": 1, "entropy.samples": 1}),
        ("flac", "small", {"actor.delay": 1}),
        ("flag", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("flag", "small", {"actor.delay": 1, "actor.steps": 1, "improvement.divergence": "exact"}),
        ("flowrl", "small", {"actor.delay": 1}),
        ("sacflow", "small", {"actor.delay": 1}),
        ("sacflow", "small", {"actor.delay": 1, "actor.net": "mlp", "actor.noise": "preserving"}),
        ("dime", "small", {"actor.delay": 1, "actor.steps": 1}),
        ("meanflowql", "small", {"actor.delay": 1}),
    ],
    keep=8,
)
def test_against_xlas_count(algo, name, settings):
    """XLA's includes what is element-wise, and products whose gradient nobody wants."""
    run = config.resolve(
        algo, registry.get(algo).config, env="HalfCheetah-v4", preset=name, overrides=settings
    )
    counted = floor.operations(run.algorithm, HALF_CHEETAH, 256)
    assert 0.85 < counted / xla_count(algo, run.algorithm, HALF_CHEETAH, 256) < 1.0


def test_what_has_no_formula_is_refused():
    with pytest.raises(UsageError, match="backbone mlp"):
        floor.operations(preset("smfp", "small", actor__backbone="dit"), HALF_CHEETAH, 256)
    with pytest.raises(UsageError, match="no count"):
        floor.operations(preset("ppo", "default"), HALF_CHEETAH, 256)


def test_a_rate_is_a_rate():
    """Between what a scalar loop does and what no core does."""
    assert 1e8 < gemm_rate(64, 64, 64, seconds=0.01) < 1e15


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_layers_of_the_users_own_have_no_count(part):
    cfg = preset("sac", "small", **{f"{part}__network": "my_nets:make"})
    with pytest.raises(UsageError, match=f"no count of operations for {part}.network"):
        floor.operations(cfg, HALF_CHEETAH, 256)
