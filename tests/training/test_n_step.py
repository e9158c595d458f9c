"""``replay.n_step`` in training: the target, every system with it, resume, seeds side by side, overlap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import plugin, registry
from fewstep.algos.dipo import ALGORITHM as DIPO
from fewstep.cli import main
from fewstep.critics import ensemble
from fewstep.errors import UsageError
from fewstep.runs import checkpoint
from fewstep.training import demands
from fewstep.training.several.cohort import Cohort
from fewstep.types import Spec
from tests.algos.common import batch, program, same, tiny
from tests.critics.reference import expected
from tests.critics.test_ensemble import BONUS, DISCOUNT, NEXT_ACTION, config, fit, started
from tests.e2e import tiny_algorithm
from tests.e2e.test_cohort import TOLERANCE, difference, trainers
from tests.faults.test_resume_everything import check_resume, go, trainer
from tests.few import slow

OFF_POLICY = [name for name in registry.BUILT_IN if registry.get(name).rollout is None]
SLOW = slow(*(name for name in OFF_POLICY if name != "sac"))
SUMMED = jnp.linspace(0.3, 0.95, 16)


@pytest.mark.parametrize("head", ["scalar", "categorical", "gaussian"])
def test_the_target_bootstraps_with_each_rows_discount(head):
    """R + gamma^m (Q(s_m, a') + bonus), each row with its own gamma^m; ends still stop it."""
    cfg, b = config(head=head), batch()._replace(discount=SUMMED)
    critics = started(cfg)
    wanted, _ = expected(cfg, np.asarray(SUMMED, np.float64), critics, b, NEXT_ACTION, BONUS)
    _, metrics = fit(cfg, critics, b, NEXT_ACTION, BONUS)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("head", ["scalar", "categorical", "gaussian"])
def test_gamma_beside_each_row_is_gamma(head):
    cfg = config(head=head)
    with_rows = batch()._replace(discount=jnp.full(16, DISCOUNT))
    (left, _), (right, _) = (fit(cfg, started(cfg), b, NEXT_ACTION, BONUS) for b in (batch(), with_rows))
    for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sac", *SLOW])
def test_an_update_differs_by_the_discounts_alone(name):
    """Of every system: gamma beside each row in place of the setting is the same step."""
    algorithm, cfg, state = tiny(name, discount=0.8)
    rows = batch()._replace(number=jnp.arange(16) if algorithm.numbered else None)
    update = jax.jit(algorithm.update, static_argnums=0)
    one, _ = update(cfg, state, rows)
    other, _ = update(cfg, state, rows._replace(discount=jnp.full(16, 0.8)))
    further, _ = update(cfg, state, rows._replace(discount=jnp.full(16, 0.4)))
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not same(jax.tree.leaves(one.critics.online), jax.tree.leaves(further.critics.online))


def test_without_discounts_in_the_batch_an_update_is_that_of_a_constant_gamma(monkeypatch):
    """The same program as one whose target has gamma closed over and is given nothing of the batch's."""
    algorithm, cfg, state = tiny("sac", discount=0.8)
    text, with_rows = (
        program(algorithm.update, cfg, state, b) for b in (batch(), batch()._replace(discount=SUMMED))
    )
    target = ensemble._target
    monkeypatch.setattr(
        ensemble, "_target", lambda head, r, end, _, bonus, nxt: target(head, r, end, 0.8, bonus, nxt)
    )
    assert program(algorithm.update, cfg, state, batch()) == text != with_rows


@pytest.mark.parametrize("name", SLOW)
def test_a_run_resumes_exactly(name, tmp_path, monkeypatch):
    check_resume(name, tmp_path, monkeypatch, **{"replay.n_step": 5})


def test_a_run_of_several_environments_that_overlaps_resumes_exactly(tmp_path, monkeypatch):
    check_resume(
        "sac",
        tmp_path,
        monkeypatch,
        **{"replay.n_step": 5, "training.envs": 3, "replay.overlap": True, "replay.reward": "bounded"},
    )


def test_seeds_side_by_side_are_given_what_each_is_alone():
    alone, together = (trainers("sac", 2, **{"replay.n_step": 4, "training.envs": 2}) for _ in range(2))
    cohort = Cohort(together)
    for _ in range(40):
        assert cohort.advance() == {}
        for one in alone:
            one.advance()
    cohort.part()
    for one, other in zip(alone, together, strict=True):
        assert one.updates == other.updates > 0
        assert difference(one, other) < TOLERANCE


def test_improved_actions_belong_to_the_first_step_of_a_window():
    one = trainer("dipo", **{"replay.n_step": 5})
    assert DIPO.numbered
    seen = []
    one.learner.learn = seen.append
    go(one, 60)
    [data] = seen[-1:]
    stored = one.experience.buffer.read(0, 60)
    np.testing.assert_array_equal(stored["obs"][data.number], data.obs)
    np.testing.assert_array_equal(stored["action"][data.number], data.action)
    assert (stored["next_obs"][data.number] != data.next_obs).any()


def test_an_episode_that_cannot_be_played_again_ends_its_windows(tmp_path):
    """The next row is of another episode; it does not go on from the last one stored."""
    more = {"replay.n_step": 3, "replay.learning_starts": 1000}
    stubborn = "tests.e2e.stubborn:IgnoresSeeds-v0"
    [first], [second] = (trainers("sac", 1, stubborn, **more) for _ in range(2))
    for _ in range(17):
        first.advance()
    checkpoint.save(tmp_path, 17, *first.snapshot(), keep=1)
    [note] = second.restore(checkpoint.load(tmp_path / "000000017"))
    assert "another observation" in note
    first.advance()
    second.advance()
    assert first.experience.buffer.read(17, 18)["follows"].tolist() == [True]
    assert second.experience.buffer.read(17, 18)["follows"].tolist() == [False]


def test_an_algorithm_of_the_users_own_must_use_the_discounts():
    record = plugin.adopted("tests.e2e.tiny_algorithm:MINE", tiny_algorithm.ALGORITHM)
    data = batch()._replace(discount=SUMMED)
    demands.check(record, record.config(), Spec(3, 2), jax.tree.map(shape, batch()))
    with pytest.raises(plugin.AlgorithmError, match=r"does not use batch\.discount, .* replay\.n_step"):
        demands.check(record, record.config(), Spec(3, 2), jax.tree.map(shape, data))
    sac = registry.get("sac")
    cfg = tiny("sac")[1]
    demands.check(sac, cfg, Spec(3, 2), jax.tree.map(shape, data))


def shape(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def test_ppo_has_no_such_setting(capsys, tmp_path):
    assert main(["train", "ppo", "toy/bandit", "--set", "replay.n_step=3", "--out", str(tmp_path / "r")]) == 2
    assert "replay.n_step" in capsys.readouterr().err


def test_defaults_are_one_step():
    for name in OFF_POLICY:
        assert registry.get(name).config().replay.n_step == 1
    with pytest.raises(UsageError, match=r"replay\.n_step"):
        tiny("sac", **{"replay.n_step": 0})
