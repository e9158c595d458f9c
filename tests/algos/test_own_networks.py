"""Layers of the user's own in actor and critic (``actor.network``, ``critic.network``)."""

import shutil
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import config, deploy
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.numpy.run import runner
from fewstep.errors import UsageError
from fewstep.nets import own
from fewstep.nets.trunks import TrunkConfig
from fewstep.runs import checkpoint
from fewstep.training import compiled, saved_policy
from fewstep.types import Spec
from tests.algos import own_nets
from tests.algos.common import batch
from tests.deploy.helpers import exported
from tests.docs.pages import ROOT, blocks
from tests.e2e.helpers import one_line, train
from tests.few import slow

OWN = "tests.algos.own_nets:make"
BOTH = (f"actor.network={OWN}", f"critic.network={OWN}", "actor.hidden=[8]", "critic.hidden=[8]")
SMALL = {"mfpo": ("actor.time_features=4", "actor.time_embed=6", "critic.atoms=11", "proposals.gaussian=2")}


def test_the_head_is_behind_the_features():
    net = TrunkConfig(network=OWN, hidden=(8,), activation="tanh").create(jax.random.key(0), 3, 2)
    leaves, tree = net.body.rest
    layers = own.eqx.combine(net.body.params, jax.tree.unflatten(tree, leaves)).layers
    x = np.random.default_rng(0).normal(size=3).astype(np.float32)
    features = x
    for layer in layers:
        features = np.tanh(np.asarray(layer.weight) @ features + np.asarray(layer.bias))
    wanted = features @ np.asarray(net.head.weight) + np.asarray(net.head.bias)
    np.testing.assert_allclose(net(jnp.asarray(x[:1]), jnp.asarray(x[1:])), wanted, rtol=1e-5, atol=1e-6)


def bodies(tree):
    """The user's layers in a policy or state."""
    found = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, own.Body))
    return [node for node in found if isinstance(node, own.Body)]


@pytest.mark.parametrize("algo", ["sac", "td3", "smfp", *slow("mfpo")])
def test_it_decides_actions_and_values(algo):
    """And an update keeps the structure of the state."""
    algorithm = registry.get(algo)
    cfg = config.resolve(algo, algorithm.config, "Ant-v4", sets=[*BOTH, *SMALL.get(algo, ())]).algorithm
    # Shapes alone, filled with random numbers: the compiler would take longest.
    state = jax.eval_shape(partial(algorithm.init, cfg, Spec(3, 2)), jax.random.key(0))
    rng = np.random.default_rng(0)
    filled = partial(jax.tree.map, lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype))
    policy, critics, obs = filled(algorithm.policy(state)), filled(state.critics), jnp.array([0.3, -0.2, 0.5])

    def other(tree):
        return own.eqx.tree_at(bodies, tree, jax.tree.map(lambda leaf: 0.7 * leaf, bodies(tree)))

    assert len(bodies(policy)) == 1 + (algo != "td3") * cfg.critic.ensemble  # TD3 has none to choose by
    draw = partial(algorithm.draw, cfg, obs=obs, noise=jnp.full(algorithm.noise(cfg, policy), 0.4))
    assert not np.array_equal(draw(policy), draw(other(policy)))
    one, two = (made.q(cfg.critic)(obs, jnp.zeros(2)) for made in (critics, other(critics)))
    assert float(one) != float(two)
    after, _ = jax.eval_shape(partial(algorithm.update, cfg), state, batch())
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "cannot load the network 'tests.algos.own_nets:missing': AttributeError"),
        ("no_function", "is no function but a int"),
        ("raises", "raises raised KeyError: 'no such layer' (*own_nets.py:*)"),
        ("nameless", "the factory raised KeyError: 'no such layer'"),
        ("uncallable", "cannot be called"),
        ("closure", "no arrays, so nothing to train"),
        ("wide", "must be float32 parameters, one is float64"),
        ("unhashable", "must be hashable"),
        ("fresh", "made twice with the same key it differs"),
        ("lambdas", "made twice with the same key it differs"),
        ("number", "a vector of float32 features, got float32[]"),
        ("matrix", "a vector of float32 features, got float32[1, 4]"),
        ("pair", "a vector of float32 features, got tuple"),
        ("halves", "a vector of float32 features, got bfloat16[4]"),
        ("infinite", "its features are not finite"),
        ("steep", "its gradients are not finite"),
        ("branches", "net(x) raised TracerBoolConversionError"),
    ],
)
def test_a_faulty_factory_is_one_line_before_training(name, said):
    cfg = TrunkConfig(network=f"tests.algos.own_nets:{name}", hidden=(4,))
    with pytest.raises(UsageError) as caught:
        jax.jit(lambda key: cfg.create(key, 3, 2))(jax.random.key(0))
    text = str(caught.value)
    assert "\n" not in text
    assert f"tests.algos.own_nets:{name}" in text
    for part in said.split("*"):
        assert part in text


@pytest.mark.parametrize("name", ["my_nets", "my_nets:", "no_such_module:make"])
def test_a_name_that_leads_nowhere(name, tmp_path, capsys):
    assert train(tmp_path / "run", env="toy/bandit", algo="sac", sets=[f"critic.network={name}"]) == 2
    one_line(capsys.readouterr().err, repr(name))


def test_a_function_is_not_a_setting():
    with pytest.raises(UsageError, match=r"critic\.network must be a text or none"):
        config.resolve(
            "sac", registry.get("sac").config, "Ant-v4", overrides={"critic.network": own_nets.make}
        )


def test_a_run_resumes_bit_for_bit_and_needs_its_module(tmp_path, monkeypatch, capsys):
    """With the module of the page, in the current folder; without it there is one line."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir(), away.mkdir()
    (home / "page_nets.py").write_text(blocks(ROOT / "docs/own-networks.md", "python")[0])
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sets = ("actor.network=page_nets:make", "critic.network=page_nets:make")
    sets += ("actor.hidden=8,8", "critic.hidden=8,8")
    whole, half = Path("whole"), Path("half")
    assert train(whole, env="toy/bandit", algo="sac", sets=sets) == 0
    assert train(half, env="toy/bandit", algo="sac", sets=sets, steps=200) == 0
    assert main(["resume", str(half), "--steps", "400", "--quiet"]) == 0
    one, other = (checkpoint.load(path / "checkpoints" / "000000400").groups for path in (whole, half))
    early = checkpoint.load(half / "checkpoints" / "000000200").groups["state"]
    layers = [name for name in early if "body/params" in name]
    assert len(layers) > 30  # actor, critics, target networks, and Adam's moments of those that have them
    assert not any(np.array_equal(early[name], one["state"][name]) for name in layers)
    saved = saved_policy.load(whole / "policy").policy.actor.net.body.params
    (name,) = (name for name in layers if name.endswith("actor/params/net/body/params/first/weight"))
    np.testing.assert_array_equal(saved.first.weight, one["state"][name])
    for name in one["state"]:
        np.testing.assert_array_equal(one["state"][name], other["state"][name], err_msg=name)
    assert main(["evaluate", str(whole), "--episodes", "1", "--actions", "best-of-2"]) == 0
    shutil.move(home / "whole", away / "whole")
    monkeypatch.chdir(away)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(home)])
    monkeypatch.delitem(sys.modules, "page_nets")
    own._tried.cache_clear()
    compiled.init.cache_clear()
    capsys.readouterr()
    assert main(["evaluate", "whole", "--episodes", "1"]) == 2
    one_line(capsys.readouterr().err, "cannot load the network 'page_nets:make'", "install it or run from")


def test_an_exported_one_acts_alike():
    artefact = exported("sac", BOTH, mode="mode")
    obs = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    np.testing.assert_allclose(
        runner(artefact.program)(obs, None), artefact.function(obs), rtol=1e-4, atol=1e-5
    )


def test_what_a_format_cannot_hold_is_said(tmp_path):
    sets = ("actor.network=tests.algos.own_nets:sorts", "actor.hidden=[8]", "critic.hidden=[8]")
    artefact = exported("sac", sets, mode="mode")
    with pytest.raises(UsageError, match=r"sac acts by .*sort.*, which only stablehlo can hold"):
        formats.write(artefact, "c", tmp_path / "policy")
    formats.write(artefact, "stablehlo", tmp_path / "policy")
    obs = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    found = deploy.load(tmp_path / "policy.stablehlo").act(obs)
    np.testing.assert_allclose(found, artefact.function(obs), rtol=1e-5, atol=1e-6)
