"""The numpy artefact: acting without jax, and refusing what is damaged, foreign or does not fit."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fewstep import deploy
from fewstep.deploy.formats import checked_tensors as tensors
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.numpy import write as artefact
from fewstep.deploy.program.description import Exported
from fewstep.deploy.program.program import Instruction, Program
from fewstep.errors import FewstepError, NonFiniteError, UsageError
from tests.deploy.helpers import SPEC, TINY, exported, observations

WITHOUT_JAX = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"jax", "jaxlib", "equinox", "optax", "gymnasium", "mujoco"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
import fewstep.deploy
policy = fewstep.deploy.load(sys.argv[1])
obs, noise = np.ones(policy.obs_size), np.full(policy.noise_size, 0.5)
print(policy.act(obs, noise).tolist())
"""


@pytest.fixture
def saved(tmp_path):
    sets = (*TINY["smfp"], "actor.hidden=[4]")
    return formats.write(exported("smfp", sets), "numpy", tmp_path / "policy")[0]


@pytest.mark.parametrize("to", ["numpy", "onnx"])
def test_a_policy_acts_where_jax_cannot_be_imported(to, tmp_path):
    path, _ = formats.write(exported("smfp", TINY["smfp"], mode="best-of-3"), to, tmp_path / "policy")
    done = subprocess.run([sys.executable, "-c", WITHOUT_JAX, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = deploy.load(path).act(np.ones(SPEC.obs_size), np.full(18, 0.5))
    np.testing.assert_array_equal(json.loads(done.stdout), here.tolist())


def test_the_observation_is_checked_when_the_policy_is_opened(saved):
    names = [f"observation[{i}]" for i in range(SPEC.obs_size)]
    assert deploy.load(saved, obs_names=names).description.obs_names == tuple(names)
    with pytest.raises(UsageError, match="takes 5 numbers, not 4"):
        deploy.load(saved, obs_names=names[1:])
    with pytest.raises(
        UsageError, match=r"number 1 of the policy's observation is observation\[1\], not speed"
    ):
        deploy.load(saved, obs_names=[names[0], "speed", *names[2:]])


def test_every_flipped_byte_is_refused(saved):
    good, flipped = saved.read_bytes(), saved.with_name("flipped.safetensors")
    assert len(good) < 10_000
    for i in range(len(good)):
        flipped.write_bytes(good[:i] + bytes([good[i] ^ 0x10]) + good[i + 1 :])
        with pytest.raises(FewstepError, match="damaged"):
            deploy.load(flipped)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(FewstepError, match=r"policy\.safetensors is damaged"):
        deploy.load(saved)


def test_other_files_are_refused(saved, tmp_path):
    with pytest.raises(UsageError, match="is not a file"):
        deploy.load(tmp_path / "nothing")
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "foreign")
    with pytest.raises(FewstepError, match="not an exported policy"):
        deploy.load(tmp_path / "foreign")


def test_a_later_format_is_refused_by_its_number(saved):
    constants = load_file(saved)
    with safe_open(saved, framework="numpy") as file:
        text = json.loads(file.metadata()["fewstep"])["content"].replace('"format": 5', '"format": 6')
    header = json.dumps({"content": text, "sha256": tensors.digest(text, constants)})
    save_file(constants, saved, metadata={"fewstep": header})
    with pytest.raises(FewstepError, match="has format 6; this fewstep reads format 5"):
        deploy.load(saved)


@pytest.mark.parametrize(
    "obs", [np.zeros(4), np.zeros(6), np.zeros((2, 2, 5)), 0.0, np.array(["a"] * 5), [[1.0], [1.0, 2.0]]]
)
def test_an_observation_that_does_not_fit_is_refused(saved, obs):
    with pytest.raises(UsageError, match="observation"):
        deploy.load(saved).act(obs, np.zeros(6))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_number_that_is_not_finite_is_refused_by_its_place(saved, bad):
    obs = np.zeros(5)
    obs[3] = bad
    with pytest.raises(NonFiniteError, match=r"observation\[3\]"):
        deploy.load(saved).act(obs, np.zeros(6))
    with pytest.raises(NonFiniteError, match=r"noise\[0\]"):
        deploy.load(saved).act(np.zeros(5), np.full(6, bad))


def test_noise_is_asked_for_drawn_or_refused(tmp_path):
    obs = observations(SPEC.obs_size)[60]
    asks = deploy.NumpyPolicy(exported("sac", TINY["sac"]))
    with pytest.raises(UsageError, match="takes its noise as an input"):
        asks.act(obs)
    with pytest.raises(UsageError, match="noise has shape"):
        asks.act(obs, np.zeros(2))
    with pytest.raises(UsageError, match="noise has shape"):
        asks.act(obs, np.zeros((1, 3)))
    noise = np.random.default_rng(5).standard_normal(3, np.float32)
    drawn = asks.act(obs, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(drawn, asks.act(obs, noise))
    path = formats.write(exported("sac", TINY["sac"], noise="inside"), "numpy", tmp_path / "inside")[0]
    first, second = (deploy.load(path, seed=3) for _ in range(2))
    action = first.act(obs)
    np.testing.assert_array_equal(action, second.act(obs))
    assert (action != first.act(obs)).any()
    centre = deploy.NumpyPolicy(exported("sac", TINY["sac"], mode="mode"))
    assert centre.act(obs).shape == (3,)
    with pytest.raises(UsageError, match="takes no noise"):
        centre.act(obs, noise)


def test_a_diverged_policy_is_not_exported():
    good = exported("sac", TINY["sac"])
    constants = {name: value.copy() for name, value in good.program.constants.items()}
    next(iter(constants.values())).flat[0] = np.nan
    with pytest.raises(FewstepError, match="not finite"):
        Program(good.program.inputs, constants, good.program.instructions, good.program.output).shapes()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Instruction("sort", "y", ("obs",)), "operation sort"),
        (Instruction("add", "y", ("obs", "later")), "before it is made"),
        (Instruction("affine", "y", ("obs", "obs", "obs")), "does not fit"),
        (Instruction("slice", "y", ("obs",), (4, 2)), "does not fit"),
        (Instruction("add", "y", ("obs", "two")), "does not fit"),
        (Instruction("rows", "y", ("obs",), (2,)), "does not fit"),
        (Instruction("best", "y", ("two", "two")), "does not fit"),
        (Instruction("tanh", "y", ("two",)), "never makes its output y, one row"),
        (Instruction("tanh", "obs", ("obs",)), "twice"),
        (Instruction("tanh", "x", ("obs",)), "never makes its output"),
    ],
)
def test_a_program_that_does_not_hang_together_is_refused(step, message):
    with pytest.raises(FewstepError, match=message):
        Program({"obs": 5}, {}, (Instruction("repeat", "two", ("obs",), (2,)), step), "y").shapes()


def test_what_is_read_is_what_was_written(saved):
    read = artefact.read(saved)
    assert isinstance(read, Exported)
    assert artefact.to_bytes(read) == saved.read_bytes()
