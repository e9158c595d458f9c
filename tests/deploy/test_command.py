"""``fewstep export`` on a run directory."""

import sys

import numpy as np
import pytest

import fewstep
from fewstep import deploy, envs
from fewstep.cli import main
from fewstep.config import resolve
from fewstep.errors import UsageError
from fewstep.runs.layout import RunDir
from fewstep.training import saved_policy
from fewstep.types import EnvInfo
from tests.deploy.helpers import TINY, policy_of
from tests.e2e.helpers import one_line

PENDULUM = EnvInfo("Pendulum-v1", ("cos", "sin", "speed"), (-2.0,), (2.0,), (1,))


@pytest.fixture
def run(tmp_path):
    """A run directory as far as export looks at it."""
    algorithm, cfg, policy = policy_of("sac", TINY["sac"], spec=PENDULUM.spec)
    directory = RunDir.create(tmp_path / "run", resolve("sac", algorithm.config, "Pendulum-v1").to_toml())
    saved = saved_policy.SavedPolicy(algorithm, cfg, PENDULUM, policy, 500, 400)
    saved_policy.save(directory.policy, saved, "sac")
    return directory.path


def test_both_formats(run, tmp_path, capsys):
    assert main(["export", str(run), "--to", "numpy", "--noise", "inside"]) == 0
    path = run / "export" / "policy.safetensors"
    assert capsys.readouterr().out.split() == [str(path), f"{path}.contract.json"]
    policy = deploy.load(path, seed=0)
    assert (policy.description.env, policy.description.env_steps) == ("Pendulum-v1", 500)
    vector = envs.make("Pendulum-v1", 1)
    obs = vector.reset([0])[0]
    vector.close()
    actions = np.array([policy.act(obs) for _ in range(200)])
    assert actions.shape == (200, 1)
    assert 1.0 < np.abs(actions).max() <= 2.0  # torque in the environment's units
    assert (
        main(["export", str(run), "--to", "c", "--out", str(tmp_path / "pole.c"), "--actions", "mode"]) == 0
    )
    header = (tmp_path / "pole.h").read_text()
    for line in (
        "FEWSTEP_OBS_SIZE 3",
        "FEWSTEP_NOISE_SIZE 0",
        "FEWSTEP_ACT_SIZE 1",
        "sac policy for Pendulum-v1",
    ):
        assert line in header


def test_an_action_repeat_goes_with_the_policy(tmp_path):
    small = {"actor.hidden": [8], "critic.hidden": [8], "training.action_repeat": 2}
    one = fewstep.SAC("Pendulum-v1", preset="small", **small)
    one.save(tmp_path / "model")
    for model in (one, fewstep.load(tmp_path / "model")):
        for to in ("numpy", "onnx"):
            path, _ = model.export(tmp_path / "policy", to)
            assert deploy.load(path).description.action_repeat == 2
        model.export(tmp_path / "policy", "c")
        model.close()
        assert "one draw per call, each action for 2 steps, after" in (tmp_path / "policy.h").read_text()


def test_what_cannot_be_done_is_said_in_one_line(run, capsys):
    assert main(["export", str(run), "--to", "tflite"]) == 2
    one_line(
        capsys.readouterr().err, "unknown export format 'tflite'; known: c, c-library, numpy, onnx, stablehlo"
    )
    assert main(["export", str(run), "--to", "c", "--actions", "mode", "--noise", "inside"]) == 2
    one_line(capsys.readouterr().err, "--noise inside has no meaning")
    assert main(["export", str(run), "--to", "c", "--out", str(run)]) == 2
    one_line(capsys.readouterr().err, "is a folder")
    assert main(["export", str(run / "nothing"), "--to", "c"]) == 2
    one_line(capsys.readouterr().err, "nothing")


def test_a_missing_package_is_named_with_what_brings_it(run, capsys, monkeypatch):
    for to, package, extra in (("onnx", "onnx", "onnx"), ("stablehlo", "flatbuffers", "stablehlo")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert main(["export", str(run), "--to", to]) == 2
        one_line(capsys.readouterr().err, f"{package} is not installed; pip install 'fewstep[{extra}]'")


def test_the_python_face_writes_what_the_command_line_does(tmp_path):
    from fewstep import SAC

    small = {"actor.hidden": [8], "critic.hidden": [8]}
    model = SAC("Pendulum-v1", preset="small", **small)
    path, _ = model.export(tmp_path / "pole", "onnx", actions="best-of-4", noise="inside")
    policy = deploy.load(path, seed=1, obs_names=[f"observation[{i}]" for i in range(3)])
    assert (policy.noise_size, policy.description.actions) == (4, "best-of-4")
    assert policy.act(np.zeros(3)).shape == (1,)
    weights = policy.description.weights
    other = deploy.load(model.export(tmp_path / "pole", actions="mode")[0])
    assert other.description.weights == weights
    np.testing.assert_allclose(
        other.act(np.ones(3)), model.predict(np.ones(3), deterministic=True)[0], atol=1e-5
    )
    with pytest.raises(UsageError, match="unknown action mode 'nativ'"):
        model.export(tmp_path / "pole", actions="nativ")
    with pytest.raises(UsageError, match="unknown noise 'outside'"):
        model.export(tmp_path / "pole", noise="outside")
    model.close()
