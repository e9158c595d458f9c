"""An algorithm of somebody else, in one file outside the package, has all that those of the house have."""

import importlib.metadata
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import deploy
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode
from fewstep.cli import main
from fewstep.errors import UsageError
from fewstep.runs import checkpoint
from fewstep.training import saved_policy
from fewstep.types import Spec
from tests.algos import awac
from tests.algos.common import batch, changed, same
from tests.critics.reference import expected
from tests.e2e.helpers import train, without_clock

RECORD = "tests.algos.awac:ALGORITHM"
SMALL = ("actor.hidden=16,16", "critic.hidden=16,16")
PAGE = Path(__file__).parents[2] / "docs" / "adding-an-algorithm.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the record, by its place."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(out, env="toy/bandit", algo=RECORD, sets=SMALL) == 0
    return out


@pytest.fixture
def installed(monkeypatch):
    """As if a package with the entry point ``awac`` were installed; one that cannot be loaded is, too."""
    points = [
        importlib.metadata.EntryPoint("awac", RECORD, registry.GROUP),
        importlib.metadata.EntryPoint("broken", "tests.algos.no_such_module:ALGORITHM", registry.GROUP),
        importlib.metadata.EntryPoint("sac", RECORD, registry.GROUP),
    ]
    chosen = lambda group: [p for p in points if p.group == group]  # noqa: E731
    monkeypatch.setattr(importlib.metadata, "entry_points", chosen)
    registry.entries.cache_clear()
    yield
    monkeypatch.undo()
    registry.entries.cache_clear()


def test_it_is_about_a_hundred_lines_and_the_page_shows_all_of_them():
    text = Path(awac.__file__).read_text()
    assert len(text.splitlines()) < 150
    assert f"```python\n{text}```" in PAGE.read_text()


# -------------------------------------------------------------------------------- the algorithm itself


def test_it_is_what_it_says():
    """The critic's target, the weights, and a known answer: the better of two actions is found."""
    cfg, b = changed(awac.AWACConfig(), awac.ALGORITHM.tiny), batch()
    before = awac.init(cfg, Spec(3, 2), jax.random.key(0))
    noise = jax.random.normal(awac.use_key(before, awac.Use.NEXT_ACTION), b.action.shape)
    nxt = jax.vmap(lambda s, e: awac.tanh_gaussian.draw(before.actor.params, s, e).action)(b.next_obs, noise)
    wanted, _ = expected(cfg.critic, 0.99, before.critics, b, nxt, None)
    after, metrics = jax.jit(partial(awac.update, cfg))(before, b)
    np.testing.assert_allclose(metrics["critic/loss"], wanted["critic/loss"], rtol=1e-4)
    assert not same(after.actor, before.actor)

    far = changed(cfg.actor, {"temperature": 0.5})
    found = awac.weights(
        far, lambda s, a: a[0], b.obs[:3], jnp.array([[1.0], [0.2], [9.0]]), jnp.zeros((3, 1))
    )
    np.testing.assert_allclose(found, [np.exp(2.0), np.exp(0.4), 20.0], rtol=1e-5)


def test_it_imitates_the_better_of_two_actions():
    cfg = changed(
        awac.AWACConfig(), {"actor": {"hidden": (32, 32), "learning_rate": 3e-3, "temperature": 0.2}}
    )
    obs, good, bad = jnp.ones((64, 3)), jnp.array([0.5, -0.3]), jnp.array([-0.6, 0.4])
    action = jnp.where(jnp.arange(64)[:, None] % 2 == 0, good, bad)
    weight = awac.weights(
        cfg.actor, lambda s, a: -jnp.sum((a - good) ** 2), obs, action, jnp.tile(good, (64, 1))
    )

    def one(actor, _):
        return awac.descend(cfg.actor, actor, awac.actor_loss, obs, action, weight)[:2]

    start = awac.init(cfg, Spec(3, 2), jax.random.key(0)).actor
    actor = jax.jit(lambda a: jax.lax.scan(one, a, None, length=600)[0])(start)
    np.testing.assert_allclose(jnp.tanh(actor.params(obs[0])[0]), good, atol=0.05)


# -------------------------------------------------------------------------------- what it gets


def test_it_is_evaluated_in_every_mode(run, capsys):
    modes = [word for mode in ("native", "sample", "best-of-3") for word in ("--actions", mode)]
    assert main(["evaluate", str(run), "--episodes", "2", "--json", *modes]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["actions"] for row in rows] == ["mode", "sample", "best-of-3"]
    assert all(len(row["returns"]) == 2 and np.isfinite(row["returns"]).all() for row in rows)


def test_it_resumes_bit_for_bit(run, tmp_path):
    half = tmp_path / "half"
    assert train(half, env="toy/bandit", algo=RECORD, sets=SMALL, steps=200) == 0
    assert main(["resume", str(half), "--steps", "400", "--quiet"]) == 0
    whole, resumed = (checkpoint.load(path / "checkpoints" / "000000400").groups for path in (run, half))
    for group in ("state", "replay"):
        assert whole[group].keys() == resumed[group].keys()
        for name in whole[group]:
            np.testing.assert_array_equal(whole[group][name], resumed[group][name], err_msg=name)
    assert without_clock(run / "evaluations.jsonl") == without_clock(half / "evaluations.jsonl")


def test_it_is_reported(run, tmp_path):
    assert main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    assert RECORD in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("actions", ["sample", "mode", "best-of-3"])
def test_it_is_exported_and_acts_alike(run, tmp_path, actions):
    # Export follows from the record's `draw` and `value`; nothing is registered for it.
    out = tmp_path / "policy"
    assert main(["export", str(run), "--to", "numpy", "--actions", actions, "--out", str(out)]) == 0
    saved = saved_policy.load(run / "policy")
    mode, key = saved.algorithm.mode(saved.cfg, actions), jax.random.key(1)
    obs = np.random.default_rng(0).normal(size=(20, saved.spec.obs_size)).astype(np.float32)
    wanted = saved.algorithm.act(saved.cfg, saved.policy, obs, key, mode)
    drawn = jax.random.normal(key, (20, mode.candidates, saved.spec.act_size)).reshape(20, -1)
    file = tmp_path / "policy.safetensors"
    found = deploy.load(file).act(obs, noise=None if mode.noise_free else np.asarray(drawn))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_best_of_n_takes_the_action_its_critics_value_most(run):
    saved = saved_policy.load(run / "policy")
    obs = np.random.default_rng(0).normal(size=(32, saved.spec.obs_size)).astype(np.float32)
    q = jax.vmap(saved.algorithm.value(saved.cfg, saved.policy))
    one, best = (
        q(obs, saved.algorithm.act(saved.cfg, saved.policy, obs, jax.random.key(0), ActionMode(candidates=n)))
        for n in (1, 32)
    )
    assert float(jnp.mean(best >= one - 1e-6)) > 0.9


# -------------------------------------------------------------------------------- by its name


def test_an_installed_package_gives_it_a_name(installed, tmp_path, capsys):
    assert registry.get("awac") is registry.get(RECORD)
    assert train(tmp_path / "run", env="toy/bandit", algo="awac", sets=SMALL, steps=100) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "1", "--actions", "sample"]) == 0
    assert json.loads((tmp_path / "run" / "policy" / "policy.json").read_text())["algo"] == "awac"
    capsys.readouterr()
    assert main(["presets", "awac"]) == 0
    assert "The algorithm's own defaults" in capsys.readouterr().out


def test_the_list_of_algorithms_has_it_and_outlives_a_package_that_cannot_be_loaded(installed, capsys):
    assert main(["algos"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["awac"] == awac.ALGORITHM.title
    assert "no_such_module" in lines["broken"]
    assert lines.keys() == {*registry.BUILT_IN, "awac", "broken"}


def test_no_package_takes_the_name_of_an_algorithm_of_the_house(installed):
    assert registry.get("sac").name == "sac"
    with pytest.raises(UsageError, match="cannot load algorithm"):
        registry.get("broken")
    with pytest.raises(UsageError, match="did you mean 'awac'"):
        registry.get("awacc")
