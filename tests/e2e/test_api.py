"""The Python face: the calls a Stable-Baselines3 user's hands know."""

import gymnasium
import numpy as np
import pytest

import fewstep
from fewstep.cli import main
from fewstep.errors import NonFiniteError, UsageError
from fewstep.training import acting
from tests.e2e.helpers import TINY, train

FAST = {
    "replay.learning_starts": 20,
    "replay.batch_size": 8,
    "training.log_every": 25,
    "replay.capacity": 1000,
}


class Dicts(gymnasium.Env):
    """Dict observations and actions in [0, 4] x [-1, 1]."""

    observation_space = gymnasium.spaces.Dict(
        {"position": gymnasium.spaces.Box(-1, 1, (2,)), "mode": gymnasium.spaces.Discrete(3)}
    )
    action_space = gymnasium.spaces.Box(np.array([0, -1], np.float32), np.array([4, 1], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"position": np.zeros(2, np.float32), "mode": 1}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        return {"position": np.ones(2, np.float32), "mode": 2}, float(action.sum()), False, False, {}


gymnasium.register("FewstepTestDicts-v0", entry_point=Dicts, max_episode_steps=5)


@pytest.fixture
def model():
    return fewstep.Model(TINY, "Pendulum-v1", seed=2, **FAST)


def test_learn_may_be_called_again_and_continues(model):
    seen = []
    model.learn(60, seen.append).learn(40, seen.append)
    assert model.num_timesteps == 100
    assert [row["env_steps"] for row in seen] == [25, 50, 60, 75, 100]
    assert seen[-1]["updates"] == 81
    once = fewstep.Model(TINY, "Pendulum-v1", seed=2, **FAST).learn(100)
    observation = np.array([0.3, 0.2, 0.1])
    assert model.predict(observation, deterministic=True) == once.predict(observation, deterministic=True)


def test_actions_are_in_the_environments_units_for_one_and_for_many(model):
    space = model.action_space
    one, state = model.predict(np.zeros(3, np.float32))
    assert state is None
    assert one.shape == (1,)
    assert one.dtype == space.dtype
    many, _ = model.predict(np.random.default_rng(0).normal(size=(500, 3)))
    assert many.shape == (500, 1)
    assert all(space.contains(action) for action in many)
    assert np.abs(many).max() > 1.0  # Pendulum's torque goes to 2


def test_dict_observations_one_and_many_agree_with_the_space():
    model = fewstep.Model(TINY, "FewstepTestDicts-v0", **FAST)
    model.learn(30)
    observation = {"position": np.array([0.5, -0.5], np.float32), "mode": 2}
    one, _ = model.predict(observation, deterministic=True)
    batch = {"position": np.tile(observation["position"], (3, 1)), "mode": np.full(3, 2)}
    many, _ = model.predict(batch)
    assert one.shape == (2,)
    assert many.shape == (3, 2)
    assert model.action_space.contains(one)
    assert all(model.action_space.contains(action) for action in many)


def test_deterministic_repeats_and_samples_differ(model):
    observation = np.array([0.1, 0.2, 0.3])
    first, second = (model.predict(observation, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, second)
    samples = {float(model.predict(observation)[0][0]) for _ in range(20)}
    assert len(samples) == 20


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((2, 2, 3)), {"x": 1}, None, [np.nan, 0, 0]])
def test_an_observation_that_does_not_fit_is_refused(model, bad):
    with pytest.raises(UsageError, match=r"does not fit Pendulum-v1"):
        model.predict(bad)


def test_predict_takes_the_policy_apart_once_until_it_has_changed(model, monkeypatch):
    """Doing it at every call would cost four times the action itself."""
    bound, bind = [], acting.bind
    monkeypatch.setattr(acting, "bind", lambda *arguments: bound.append(1) or bind(*arguments))
    model._predictor._bound_to = None
    for _ in range(3):
        model.predict(np.zeros(3, np.float32))
    assert len(bound) == 1


def test_predict_sees_what_was_learned_since(model):
    """Also within ``learn``, from a callback."""
    observation, seen = np.array([0.1, 0.2, 0.3]), []
    model.learn(75, lambda row: seen.append(model.predict(observation, deterministic=True)[0].item()))
    assert len(set(seen)) == len(seen) == 3


def test_saved_and_loaded_models_are_the_same(model, tmp_path):
    model.learn(50)
    model.save(tmp_path / "model")
    loaded = fewstep.load(tmp_path / "model")
    observation = np.ones((4, 3))
    expected, _ = model.predict(observation, deterministic=True)
    assert np.array_equal(loaded.predict(observation, deterministic=True)[0], expected)
    assert loaded.num_timesteps == 50
    model.learn(10)
    model.save(tmp_path / "model")  # replaces
    assert fewstep.load(tmp_path / "model").num_timesteps == 60
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_learning_goes_on_after_loading_with_and_without_the_replay_buffer(model, tmp_path):
    model.learn(50)
    model.save(tmp_path / "with", replay=True)
    model.save(tmp_path / "without")
    rows = {}
    for name in ("with", "without"):
        seen = []
        fewstep.load(tmp_path / name).learn(30, seen.append)
        rows[name] = seen[-1]["updates"]
    assert rows == {"with": 31 + 30, "without": 31 + 11}  # 20 steps to fill it, the 20th learns


def test_the_command_line_opens_saved_models(model, tmp_path):
    model.learn(50)
    model.save(tmp_path / "model")
    assert main(["evaluate", str(tmp_path / "model"), "--episodes", "1"]) == 0
    assert main(["resume", str(tmp_path / "model"), "--steps", "80", "--quiet"]) == 0
    assert fewstep.load(tmp_path / "model").num_timesteps == 80


def test_a_run_can_be_loaded_but_not_written_over(tmp_path):
    assert train(tmp_path / "run", steps=200) == 0
    model = fewstep.load(tmp_path / "run")
    assert model.num_timesteps == 200
    with pytest.raises(UsageError, match="is a run; choose another path"):
        model.save(tmp_path / "run")
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="is not a saved model"):
        model.save(tmp_path / "other")


def test_a_class_opens_only_its_own(model, tmp_path):
    model.save(tmp_path / "model")
    with pytest.raises(UsageError, match="not of 'mfpo'"):
        fewstep.MFPO.load(tmp_path / "model")
    with pytest.raises(UsageError, match="does not exist"):
        fewstep.MFPO.load(tmp_path / "absent")


def test_evaluate_does_not_disturb_learning(model):
    other = fewstep.Model(TINY, "Pendulum-v1", seed=2, **FAST)
    returns, lengths = model.evaluate(3)
    assert returns.shape == lengths.shape == (3,)
    assert (lengths == 200).all()
    model.learn(40)
    other.learn(40)
    observation = np.ones(3)
    assert model.predict(observation, deterministic=True) == other.predict(observation, deterministic=True)


def test_numbers_that_are_not_finite_stop_learning():
    model = fewstep.Model(TINY, "toy/bandit", **FAST, poison_at=3, poison="metric")
    with pytest.raises(NonFiniteError, match="actor/loss is nan at environment step 25"):
        model.learn(100)


def test_wrong_names_are_refused():
    with pytest.raises(UsageError, match=r"did you mean 'training\.envs'\?"):
        fewstep.Model(TINY, "toy/bandit", **{"training.env": 3})
    with pytest.raises(UsageError, match="total_timesteps must be at least 1"):
        fewstep.Model(TINY, "toy/bandit", **FAST).learn(0)


def test_evaluate_policy_of_stable_baselines3_would_accept_the_model(model):
    """The calls that function makes, in its own loop over a vector of environments."""
    envs = [gymnasium.make("Pendulum-v1", max_episode_steps=20) for _ in range(2)]
    observations = np.stack([env.reset(seed=i)[0] for i, env in enumerate(envs)])
    states, starts = None, np.ones(2, bool)
    for _ in range(20):
        actions, states = model.predict(observations, state=states, episode_start=starts, deterministic=True)
        results = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        observations = np.stack([result[0] for result in results])
        starts = np.array([result[2] or result[3] for result in results])
    assert starts.all()


def test_importing_fewstep_is_light():
    import subprocess
    import sys

    program = (
        "import sys, fewstep, fewstep.cli; from fewstep.cli.main import parser; parser();"
        "print([m for m in ('jax', 'gymnasium', 'mujoco', 'numpy') if m in sys.modules], fewstep.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("]")[0] == "["
