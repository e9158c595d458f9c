"""Image observations: learned from, resumed, evaluated, exported; what takes none says so."""

import json

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces

import fewstep
from fewstep import deploy, envs
from fewstep.cli import main
from fewstep.envs.interface import Interface
from fewstep.errors import UsageError
from fewstep.replay import ReplayBuffer
from fewstep.runs import checkpoint
from fewstep.training import saved_policy
from fewstep.types import Spec, Transition
from tests.e2e.dot import SIDE, Dot
from tests.e2e.helpers import one_line, train

ENV = "tests.e2e.dot:Dot-v0"
SMALL = ("actor.hidden=16", "critic.hidden=16")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of SAC, too short to learn."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(out, env=ENV, algo="sac", sets=(*SMALL, "training.checkpoint_every=40"), steps=80) == 0
    return out


def test_a_run_resumes_bit_for_bit_and_stores_bytes(run, tmp_path):
    half = tmp_path / "half"
    assert train(half, env=ENV, algo="sac", sets=(*SMALL, "training.checkpoint_every=40"), steps=40) == 0
    assert main(["resume", str(half), "--steps", "80", "--quiet"]) == 0
    one, other = (checkpoint.load(path / "checkpoints" / "000000080").groups for path in (run, half))
    assert one["state"].keys() == other["state"].keys()
    for name in one["state"]:
        np.testing.assert_array_equal(one["state"][name], other["state"][name], err_msg=name)
    encoders = [name for name in one["state"] if "encoder/layers/0/weight" in name]
    early = checkpoint.load(half / "checkpoints" / "000000040").groups["state"]
    assert len(encoders) > 5  # actor, critics, target networks, and Adam's moments
    assert not any(np.array_equal(early[name], one["state"][name]) for name in encoders)
    rows, resumed = (groups["replay"].read(0, 80) for groups in (one, other))
    for name in rows:
        np.testing.assert_array_equal(rows[name], resumed[name], err_msg=name)
    assert rows["obs"].dtype == rows["next_obs"].dtype == np.uint8
    assert set(np.unique(rows["obs"])) == {0, 255}
    assert (rows["obs"].sum(axis=1, dtype=int) == 9 * 255).all()


def test_it_is_evaluated_and_predicts_for_batches(run, capsys):
    assert main(["evaluate", str(run), "--episodes", "2", "--json", "--actions", "best-of-2"]) == 0
    assert len(json.loads(capsys.readouterr().out)["returns"]) == 2
    model = fewstep.load(run)
    images = np.stack([Dot().reset(seed=seed)[0] for seed in range(3)])
    actions, _ = model.predict(images, deterministic=True)
    one, _ = model.predict(images[1], deterministic=True)
    assert actions.shape == (3, 2)
    np.testing.assert_array_equal(actions[1], one)
    assert not np.array_equal(actions[0], actions[1])
    with pytest.raises(UsageError, match="observation holds float32, its space uint8"):
        model.predict(images[1].astype(np.float32))


def test_stablehlo_holds_it_and_no_other_format(run, tmp_path, capsys):
    assert (
        main(["export", str(run), "--to", "stablehlo", "--actions", "mode", "--out", f"{tmp_path}/dot"]) == 0
    )
    obs = np.stack([Dot().reset(seed=seed)[0].ravel() for seed in range(3)]).astype(np.float32)
    saved = saved_policy.load(run / "policy")
    assert saved.spec == Spec(SIDE * SIDE, 2, (SIDE, SIDE, 1))
    mode = saved.algorithm.mode(saved.cfg, "mode")
    wanted = saved.algorithm.act(saved.cfg, saved.policy, obs, jax.random.key(0), mode)
    np.testing.assert_allclose(deploy.load(tmp_path / "dot.stablehlo").act(obs), wanted, atol=1e-5)
    for name in ("c", "onnx", "numpy"):
        capsys.readouterr()
        assert main(["export", str(run), "--to", name, "--out", str(tmp_path / name)]) == 2
        one_line(capsys.readouterr().err, "acts on images, which only stablehlo can hold")


def test_bytes_take_a_quarter_of_the_memory():
    spec = Spec(64 * 64 * 3, 2, (64, 64, 3))
    images, vectors = (ReplayBuffer(100, each, 0) for each in (spec, Spec(spec.obs_size, 2)))
    assert images.nbytes == 100 * (2 * spec.obs_size + 4 * 2 + 5)
    assert vectors.nbytes == 100 * (8 * spec.obs_size + 4 * 2 + 5)
    obs = np.random.default_rng(0).integers(0, 256, (7, spec.obs_size)).astype(np.float32)
    flags = np.zeros(7, np.bool_)
    images.add(Transition(obs, np.zeros((7, 2), np.float32), np.zeros(7, np.float32), flags, obs[::-1]))
    drawn = images.sample(2, 3)
    assert drawn.obs.dtype == np.uint8
    assert all((row == obs).all(axis=1).any() for row in drawn.obs.reshape(6, -1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("td3",), "td3 does not learn from images; those that do: crossq, sac, smfp"),
        (("ppo",), "ppo does not learn from images"),
        (("sac", "replay.normalise_obs=true"), "replay.normalise_obs is not for image observations"),
        (("sac", "replay.dataset.path=nowhere"), "replay.dataset cannot be used with image observations"),
    ],
)
def test_what_takes_no_images_says_so(words, said, tmp_path, capsys):
    algo, *sets = words
    command = ["train", algo, ENV, "--quiet", "--out", str(tmp_path / "run")]
    assert main([*command, *(["--set", *sets] if sets else [])]) == 2
    one_line(capsys.readouterr().err, said)


def test_an_environment_in_its_own_process_gives_the_same_images():
    watched = envs.make(ENV, 1, watch=envs.Supervision(60.0, 0))
    try:
        here = envs.make(ENV)
        assert watched.spec == here.spec == Spec(SIDE * SIDE, 2, (SIDE, SIDE, 1))
        np.testing.assert_array_equal(watched.reset([3]), here.reset([3]))
    finally:
        watched.close()


class Pictures(gymnasium.Env):
    """Gives one observation."""

    def __init__(self, value):
        self.value = value
        self.observation_space = spaces.Box(0, 255, value.shape, np.uint8)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.value, {}


@pytest.mark.parametrize(
    ("shape", "image", "to_last"),
    [
        ((20, 16, 3), (20, 16, 3), (0, 1, 2)),
        ((3, 20, 16), (20, 16, 3), (1, 2, 0)),  # channels first, or stacked grey frames
        ((4, 20, 16, 3), (20, 16, 12), (1, 2, 0, 3)),  # as gymnasium's FrameStackObservation stacks them
        ((4, 3, 20, 16), (20, 16, 12), (2, 3, 0, 1)),
    ],
)
def test_channels_and_stacked_frames_come_last(shape, image, to_last):
    value = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    vector = envs.make(lambda: Pictures(value))
    assert vector.spec.image == image
    flat = vector.reset([0])[0]
    np.testing.assert_array_equal(flat.reshape(image), value.transpose(to_last).reshape(image))
    names = vector.info.obs_names
    for index in (0, 7, 100, len(flat) - 1):
        at = tuple(map(int, names[index].removeprefix("observation[").rstrip("]").split(",")))
        assert flat[index] == value[at]
    rows, batched = Interface(vector).flatten(np.stack([value, value[::-1]]))
    assert batched
    np.testing.assert_array_equal(rows[0], flat)


def test_stacked_frames_of_gymnasium_are_an_image():
    vector = envs.make(lambda: gymnasium.wrappers.FrameStackObservation(Dot(), 3))
    assert vector.spec.image == (SIDE, SIDE, 3)
    frames = vector.reset([0])[0].reshape(SIDE, SIDE, 3)
    np.testing.assert_array_equal(frames[..., 2], Dot().reset(seed=0)[0][..., 0])


def learned(tmp_path, algo, steps, *sets):
    """Mean return of the last evaluation."""
    rates = ("actor.learning_rate=1e-3", "critic.learning_rate=1e-3", "actor.hidden=64", "critic.hidden=64")
    more = (*rates, "replay.learning_starts=200", "replay.batch_size=64", f"training.eval_every={steps}")
    more += ("training.eval_episodes=100", "training.eval_modes=native", *sets)
    assert train(tmp_path / "run", env=ENV, algo=algo, steps=steps, sets=more) == 0
    (row,) = (json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines())
    return np.mean(row["returns"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algo", "steps", "sets"),
    [
        ("sac", 1500, ("temperature.initial=0.01",)),
        ("crossq", 1500, ("temperature.initial=0.01",)),
        ("smfp", 2000, ()),
    ],
)
def test_the_dot_is_found(algo, steps, sets, tmp_path):
    """Far above -0.578, the best that an action blind to the image can get."""
    assert learned(tmp_path, algo, steps, *sets) > -0.2
