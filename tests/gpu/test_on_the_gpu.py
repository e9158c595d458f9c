"""A GPU computes what the CPU computes, and everything that a run needs works on one."""

import json

import jax
import numpy as np
import pytest

import fewstep
from fewstep import deploy
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.config import resolve
from fewstep.runs import checkpoint
from fewstep.training import compiled, seeds, state_io
from fewstep.training.several import placement
from fewstep.training.several.cohort import Cohort
from tests.algos.common import SPEC, batch, numbered
from tests.e2e.helpers import FAST, process
from tests.e2e.test_cohort import difference, trainers

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("device")]

ALGORITHMS = ("sac", "crossq", "smfp", "mfpo")
UPDATE = 2e-3
"""Of one update, relative to the largest entry of each array. Gradients agree to about 1e-6, but Adam's first
step is the learning rate times the sign of a gradient, also where that is nothing but rounding."""
ACTION = 1e-4
"""Of an exported policy's action to that of ``predict``."""


def test_doctor_names_the_device(device, capsys):
    assert main(["doctor"]) == 0
    assert f"jax runs on {device.platform}: {device.device_kind}" in capsys.readouterr().out


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_update_is_that_of_the_cpu(name, device):
    algorithm = registry.get(name)
    cfg = resolve(name, algorithm.config, "none", overrides=dict(algorithm.tiny)).algorithm
    start = state_io.to_arrays(compiled.init(algorithm, cfg, SPEC)(seeds.key(0, seeds.Stream.ALGORITHM)))
    template = jax.eval_shape(lambda: algorithm.init(cfg, SPEC, jax.random.key(0)))
    data = numbered() if algorithm.numbered else batch()
    found = []
    for place in (device, jax.devices("cpu")[0]):
        with jax.default_device(place):
            state, metrics = jax.jit(lambda s, b: algorithm.update(cfg, s, b))(
                *jax.device_put((state_io.from_arrays(template, start, "it"), data), place)
            )
        assert {leaf.device for leaf in jax.tree.leaves(state)} == {place}
        found.append((state_io.to_arrays(state), jax.device_get(metrics)))
    (state, metrics), (expected, expected_metrics) = found
    for metric, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[metric], value, rtol=1e-3, atol=1e-4, err_msg=metric)
    moved = 0
    for path, array in expected.items():
        if np.issubdtype(array.dtype, np.floating):
            scale = max(float(np.abs(array).max(initial=0.0)), 1e-6)
            assert np.abs(state[path] - array).max(initial=0.0) <= UPDATE * scale, path
            moved += not np.array_equal(array, start[path])
        else:
            assert np.array_equal(state[path], array), path
    assert moved > 10


@pytest.mark.parametrize("name", ["sac", "mfpo"])
def test_a_cut_run_goes_on_to_the_bits_of_an_undisturbed_one(name, tmp_path):
    """Each in a process of its own, as runs are: what a process tunes for its GPU must not show either."""
    sets = [f"{key}={json.dumps(value)}" for key, value in dict(registry.get(name).tiny).items()]
    words = ["train", name, "Pendulum-v1", "--set", *FAST, *sets, "training.eval_every=0"]
    run(*words, "--steps", "200", "--out", tmp_path / "whole")
    run(*words, "--steps", "117", "--out", tmp_path / "cut")
    run("resume", tmp_path / "cut", "--steps", "200")
    whole, cut = (checkpoint.load(tmp_path / one / "checkpoints" / "000000200") for one in ("whole", "cut"))
    assert whole.meta["updates"] == 151
    for group in ("state", "replay"):
        for path, array in whole.groups[group].items():
            if not path.startswith("totals/"):  # of an interval that the cut has divided
                assert np.array_equal(array, cut.groups[group][path]), path


def run(*words):
    child = process(*words, "--quiet")
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", ["sac", "mfpo"])
def test_seeds_side_by_side_are_those_of_each_alone(name):
    count = 3
    alone, together = trainers(name, count), trainers(name, count)
    cohort = Cohort(together)
    for _ in range(30):
        assert cohort.advance() == {}
        for trainer in alone:
            trainer.advance()
    devices = placement.devices_for(count, jax.local_device_count())
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(cohort._joined)} == {devices}
    cohort.part()
    for one, other in zip(alone, together, strict=True):
        assert one.updates == other.updates == 11
        np.testing.assert_allclose(one.obs, other.obs, rtol=1e-3, atol=1e-3)
        assert difference(one, other) < 1e-2


@pytest.mark.usefixtures("exact")
def test_a_policy_learned_there_acts_the_same_exported(device, tmp_path):
    small = dict(registry.get("sac").tiny) | {"replay.learning_starts": 20, "replay.batch_size": 8}
    model = fewstep.Model("sac", "Pendulum-v1", **small)
    model.learn(40)
    assert {leaf.device for leaf in jax.tree.leaves(model._trainer.policy)} == {device}
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    wanted = np.array([model.predict(obs, deterministic=True)[0] for obs in observations])
    assert wanted.std() > 1e-3
    for to in ("numpy", "onnx"):
        path, *_ = model.export(tmp_path / "policy", to, actions="mode")
        policy = deploy.load(path)
        acted = np.array([policy.act(obs) for obs in observations])
        np.testing.assert_allclose(acted, wanted, atol=ACTION * np.abs(wanted).max())
    model.close()
