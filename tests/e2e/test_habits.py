"""Calls that Stable-Baselines3 has taught: they work, or one line says what to write here."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import fewstep
from fewstep import callbacks, habits
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.config import known_settings
from fewstep.errors import UsageError
from tests.e2e.helpers import TINY
from tests.e2e.test_api import FAST, Dicts


class Gradient:
    """An array of another library's that does not let itself be read."""

    def __array__(self, *arguments, **named):
        raise RuntimeError("call detach() first\nand then numpy()")


@pytest.fixture(scope="module")
def model():
    return fewstep.Model(TINY, "Pendulum-v1", **FAST).learn(25)


@pytest.fixture(scope="module")
def dicts():
    return fewstep.Model(TINY, "FewstepTestDicts-v0", **FAST)


PENDULUM = gymnasium.make("Pendulum-v1")
VECTOR = gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec("Pendulum-v1", 2))
CALLS = [
    (lambda m: fewstep.SAC("MlpPolicy", "Pendulum-v1"), r"SAC\('Pendulum-v1'\)"),
    (lambda m: fewstep.PPO("MlpPolicy", PENDULUM), r"PPO\(YOUR_ENV\)"),
    (lambda m: fewstep.SAC(policy="MlpPolicy", env="Pendulum-v1"), "own policy"),
    (lambda m: fewstep.SAC("MlpPolicy", env="Pendulum-v1"), r"SAC\('Pendulum-v1'\)"),
    (lambda m: fewstep.SAC("Pendulum-v1", env=PENDULUM), r"SAC\(YOUR_ENV\)"),
    (lambda m: fewstep.SAC(), r"an environment is missing: SAC\('Pendulum-v1'\)"),
    (
        lambda m: fewstep.SAC(PENDULUM, **{"training.envs": 3}),
        r"1 environment was given, training\.envs is 3",
    ),
    (lambda m: fewstep.SAC(3), r"an id, a gymnasium\.Env, a function"),
    (lambda m: fewstep.SAC([PENDULUM, PENDULUM]), "the same environment twice"),
    (lambda m: fewstep.SAC(["Pendulum-v1"]), r"training\.envs says how many"),
    (lambda m: fewstep.SAC([]), "at least one"),
    (lambda m: fewstep.SAC(VECTOR), "cannot be taken apart"),
    (lambda m: fewstep.SAC(lambda: "Pendulum-v1"), r"returned a str \('Pendulum-v1'\), not a gymnasium\.Env"),
    (
        lambda m: fewstep.SAC("Pendulum-v1", config={"discount": 0.9}),
        r"must be a fewstep\.algos\.sac\.SACConfig",
    ),
    (lambda m: fewstep.SAC("Pendulum-v1", seed=None), "seed must be"),
    (lambda m: fewstep.SAC("Pendulum-v1", seed=1.0), "seed must be"),
    (lambda m: fewstep.SAC("Pendulum-v1", preset=None), "preset must be a text"),
    (lambda m: fewstep.Model(None, "Pendulum-v1"), "algo must be a text"),
    (lambda m: fewstep.SAC("Pendulum-v1", gamma=0.99), r'\*\*\{"discount": 0.99\}'),
    (lambda m: fewstep.SAC("Pendulum-v1", learning_rate=3e-4), r'"actor.learning_rate": 0.0003, "critic'),
    (lambda m: fewstep.PPO("Pendulum-v1", learning_rate=3e-4), r'\*\*\{"optimiser.learning_rate": 0.0003\}'),
    (lambda m: fewstep.SAC("Pendulum-v1", buffer_size=10), r'"replay.capacity": 10'),
    (lambda m: fewstep.SAC("Pendulum-v1", policy_kwargs={"net_arch": [64]}), "actor.hidden"),
    (lambda m: fewstep.SAC("Pendulum-v1", tensorboard_log="logs"), "fewstep sync"),
    (lambda m: fewstep.SAC("Pendulum-v1", device="cuda"), "JAX_PLATFORMS"),
    (lambda m: fewstep.SAC("Pendulum-v1", verbose="yes"), "verbose must be a whole number"),
    (lambda m: m.learn(10, log_interval=4), "training.log_every"),
    (lambda m: m.learn(10, reset_num_timesteps=False), "always goes on"),
    (lambda m: m.learn(10, steps=3), "learn has no argument 'steps'"),
    (lambda m: m.learn(10, callback=[3]), "callback must be a function"),
    (lambda m: m.learn(10, eval_freq=4), r"eval_every=STEPS"),
    (lambda m: m.learn(10, eval_every=-1), "eval_every must be at least 0"),
    (lambda m: m.learn(10, eval_env="Pendulum-v1", eval_every=0), "there is an eval_env, but nothing is"),
    (lambda m: m.learn(10, callbacks.stop_on_return(1.0)), "a callback waits for evaluations"),
    (lambda m: m.learn(10, callbacks.Callback(checkpoint=print)), "a callback waits for checkpoints"),
    (lambda m: m.load_replay("nowhere"), "is not a saved replay buffer"),
    (lambda m: m.learn("10"), "total_timesteps must be a whole number"),
    (lambda m: m.learn(1.5), "total_timesteps must be a whole number"),
    (lambda m: m.learn(None), "total_timesteps must be a whole number"),
    (lambda m: m.evaluate(episodes=1, seed=-1), "seed must be from 0"),
    (lambda m: m.evaluate(episodes=None), "episodes must be a whole number"),
    (lambda m: m.evaluate(1, actions=None), "actions must be a text"),
    (lambda m: m.set_env(PENDULUM), r"fewstep\.load\(PATH, env=\.\.\.\)"),
    (lambda m: m.env, r"model\.get_env\(\)"),
    (lambda m: fewstep.load("nowhere", device="cpu"), "JAX_PLATFORMS"),
    (lambda m: fewstep.load(None), "must be the name"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[str(index) for index in range(len(CALLS))])
def test_one_line_says_what_to_write(call, message, model):
    steps = model.num_timesteps
    with pytest.raises(UsageError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)
    assert model.num_timesteps == steps


def test_what_works_as_it_is(model, tmp_path):
    one = fewstep.Model(TINY, "Pendulum-v1", verbose=0, seed=np.int64(1), **FAST)
    assert one.learn(total_timesteps=np.int64(10), progress_bar=False).num_timesteps == 10
    assert one.learn(1e1).num_timesteps == 20
    assert one.evaluate(episodes=np.int32(2), seed=np.int64(3))[0].shape == (2,)
    one.save(tmp_path / "a.zip")
    assert fewstep.load(tmp_path / "a.zip", env="Pendulum-v1").predict(np.zeros(3))[0].shape == (1,)


def test_what_we_lack_is_absent_for_whoever_asks_politely(model):
    assert not hasattr(model, "env")
    assert getattr(model, "replay_buffer", 3) == 3
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = model.nonsense


@pytest.mark.parametrize("table", [habits.SETTINGS, habits.OTHERS], ids=["same", "otherwise"])
def test_every_setting_of_the_table_exists(table):
    known = set().union(*(known_settings(registry.get(name).config) for name in registry.BUILT_IN))
    for name, settings in table.items():
        assert set(settings) <= known, name


def test_every_word_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    table = page[page.index("## From Stable-Baselines3") :]
    words = {*habits.SETTINGS, *habits.OTHERS, *habits.ADVICE, *habits.ATTRIBUTES}
    assert not {word for word in words if f"`{word}`" not in table}


BATCHES = [
    np.zeros((0, 4)),
    np.zeros((2, 2, 3)),
    np.zeros((2, 4)),
    np.zeros(0),
    [[1.0, 2.0, 3.0], [1.0]],
    [],
    None,
    "abc",
    np.array(["a", "b", "c"]),
    np.array([1, 2, 3], object),
    np.array([1j, 0, 0]),
    np.array([True, False, True]),
    Gradient(),
    {"x": np.zeros(3)},
    np.array([[0, 0, 0], [0, np.nan, 0]]),
    np.array([[0, 0, 1e300]]),
]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("index", range(len(BATCHES)))
def test_an_ill_fitting_batch_is_one_line(index, deterministic, model):
    with pytest.raises(UsageError, match=r"does not fit Pendulum-v1") as caught:
        model.predict(BATCHES[index], deterministic=deterministic)
    assert "\n" not in str(caught.value)


DICT = {"position": np.zeros((3, 2), np.float32), "mode": np.array([0, 1, 2])}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"position": DICT["position"]}, "no entry 'mode'"),
        (DICT | {"more": 1}, "an entry 'more'"),
        (DICT | {"mode": np.array([0, 1])}, "not one batch"),
        (DICT | {"mode": 1}, "not one batch"),
        (DICT | {"mode": np.array([0, 1, 7])}, "not a value of its discrete space"),
        (DICT | {"mode": np.array([0.0, 1.0, 2.0])}, "not a value of its discrete space"),
        (DICT | {"mode": np.array([0, 1, 2], np.uint64) + np.uint64(2**63)}, "not a value"),
        (DICT | {"position": np.zeros((3, 3))}, "shape"),
        (DICT | {"position": None}, "numeric"),
        (list(DICT.values()), "its space a dict"),
        (None, "its space a dict"),
    ],
)
def test_an_ill_fitting_batch_of_dicts_is_one_line(batch, message, dicts):
    with pytest.raises(UsageError, match=rf"does not fit .*{message}") as caught:
        dicts.predict(batch)
    assert "\n" not in str(caught.value)


def test_tuples_are_taken_apart_too():
    class Tuples(Dicts):
        observation_space = gymnasium.spaces.Tuple(tuple(Dicts.observation_space.values()))

        def reset(self, **named):
            observation, info = super().reset(**named)
            return tuple(observation[key] for key in Dicts.observation_space), info

        def step(self, action):
            observation, *rest = super().step(action)
            return tuple(observation[key] for key in Dicts.observation_space), *rest

    one = fewstep.Model(TINY, Tuples, **FAST)
    parts = [DICT[key] for key in Dicts.observation_space]
    assert one.predict(tuple(parts))[0].shape == (3, 2)
    assert one.predict([part[:0] for part in parts])[0].shape == (0, 2)
    for bad in (parts[:1], [*parts, 1], [parts[0], parts[1][:2]], DICT):
        with pytest.raises(UsageError, match="does not fit") as caught:
            one.predict(bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("deterministic", [False, True])
def test_an_empty_batch_gives_an_empty_batch(deterministic, model, dicts):
    actions, _ = model.predict(np.zeros((0, 3)), deterministic=deterministic)
    assert (actions.shape, actions.dtype) == ((0, 1), np.float32)
    empty = {key: value[:0] for key, value in DICT.items()}
    assert dicts.predict(empty, deterministic=deterministic)[0].shape == (0, 2)


def test_a_deterministic_action_depends_on_the_observation_alone(model):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(20, 3)).astype(np.float32)
    alone = np.stack([model.predict(row, deterministic=True)[0] for row in obs])
    model.predict(obs)
    for order in (np.arange(20), rng.permutation(20), np.arange(7), np.array([3])):
        assert np.array_equal(model.predict(obs[order], deterministic=True)[0], alone[order])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "sac", "toy/bandit", "--steps", "x"], "--steps: must be a whole number; got 'x'"),
        (["evaluate", "run", "--episodes", "1.5"], "--episodes: must be a whole number; got 1.5"),
        (["check-env", "toy/bandit", "--steps", "1e30"], "--steps: must be smaller than 2**63"),
    ],
)
def test_the_command_line_refuses_other_numbers_in_one_line(words, message, capsys):
    assert main(words) == 2
    text = capsys.readouterr().err
    assert message in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("text", ["1e5", "100_000", "100000", "1E5"])
def test_the_command_line_reads_numbers_as_settings(text, capsys):
    assert main(["config", "sac", "toy/bandit", "--steps", text, "--seed", "1e1"]) == 0
    out = capsys.readouterr().out
    assert "\nsteps = 100000\n" in out
    assert "\nseed = 10\n" in out
