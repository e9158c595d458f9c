"""Recorded episodes: what is read of them, what is refused, and that an evaluation writes such."""

import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from fewstep import data, envs
from fewstep.cli import main
from fewstep.data.episodes import Episode, Folder, Tape, read
from fewstep.envs.interface import Interface
from fewstep.errors import UsageError
from tests.e2e.helpers import one_line, rows, train

STEPS = 5


@pytest.fixture(scope="module")
def pendulum():
    """Torques in [-2, 2], three numbers of observation."""
    vector = envs.make("Pendulum-v1")
    yield Interface(vector)
    vector.close()


def episode(start=0, **changes):
    """Five steps with numbers that are recognised again."""
    k = np.arange(start, start + STEPS + 1, dtype=np.float32)
    made = {
        "observations": np.stack([k, 10 * k, 100 * k], axis=1),
        "actions": np.array([[-2.0], [-1.0], [0.0], [0.5], [2.0]], np.float32),
        "rewards": k[1:] / 2,
        "terminated": np.array(False),
        "truncated": np.array(True),
    }
    return made | changes


def folder(path, *episodes):
    path.mkdir()
    for number, one in enumerate(episodes):
        np.savez(path / f"{number}.npz", **one)
    return str(path)


def test_two_episodes_become_transitions(pendulum, tmp_path):
    """The successor of each last step is kept, and its flag; actions are brought to [-1, 1]."""
    flags = np.array([False] * (STEPS - 1) + [True])
    found = data.load(
        folder(tmp_path / "d", episode(), episode(20, terminated=flags, truncated=~flags & False)), pendulum
    )
    steps = found.steps
    assert len(found) == 10
    assert np.flatnonzero(found.first).tolist() == [0, 5]
    np.testing.assert_array_equal(steps.obs[:, 0], [0, 1, 2, 3, 4, 20, 21, 22, 23, 24])
    np.testing.assert_array_equal(
        steps.next_obs[:, 2], [100, 200, 300, 400, 500, 2100, 2200, 2300, 2400, 2500]
    )
    np.testing.assert_array_equal(steps.action[:, 0], [-1, -0.5, 0, 0.25, 1] * 2)
    np.testing.assert_array_equal(steps.reward, [*np.arange(1, 6) / 2, *np.arange(21, 26) / 2])
    assert np.flatnonzero(steps.terminated).tolist() == [9]
    assert [field.dtype for field in steps[:5]] == [np.float32, np.float32, np.float32, np.bool_, np.float32]
    about = found.summary
    assert about == data.Summary(str(tmp_path / "d"), 2, 10, about.sha256, 12.5)


def test_actions_go_to_the_environment_and_back(pendulum):
    rng = np.random.default_rng(0)
    unit = rng.uniform(-1, 1, (50, 1)).astype(np.float32)
    np.testing.assert_allclose(pendulum.from_env(pendulum.to_env(unit)), unit, atol=1e-6)
    assert pendulum.from_env(np.array([[2.0 + 1e-5], [-2.0]])).tolist() == [[1.0], [-1.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": np.zeros((6, 4))}, "observations have 4 numbers each, those of Pendulum-v1 3"),
        ({"observations": np.zeros((5, 3))}, "5 rewards need 6 observations, got 5"),
        ({"observations": np.full((6, 3), np.nan)}, r"observations\[0, 0\] is nan, not a finite"),
        ({"observations": np.full((6, 3), 1e39)}, r"observations\[0, 0\] is 1e\+39, not a finite"),
        ({"observations": np.full((6, 3), "x")}, "observations are no numbers"),
        ({"observations": np.zeros(3)}, "observations are a single one"),
        ({"actions": np.zeros((6, 1))}, "5 rewards need 5 actions, got 6"),
        ({"actions": np.zeros((5, 2))}, r"actions have shape \(5, 2\), those of Pendulum-v1 1 numbers each"),
        ({"actions": np.float32(0)}, r"actions have shape \(\), those of"),
        (
            {"actions": np.full((5, 1), 2.1)},
            r"actions\[0, 0\] is 2.1, outside Pendulum-v1's bounds \[-2, 2\]",
        ),
        ({"actions": np.full((5, 1), np.inf)}, r"actions\[0, 0\] is inf, not a finite"),
        ({"rewards": np.array([0, 1, np.nan, 0, 0])}, r"rewards\[2\] is nan, not a finite"),
        ({"rewards": np.zeros((5, 1))}, r"rewards must have one number per step, .* got shape \(5, 1\)"),
        ({"rewards": np.zeros(0)}, r"at least one, got shape \(0,\)"),
        ({"truncated": np.array(False)}, "does not say how it ended: terminated or truncated must be true"),
        (
            {"terminated": np.array(True), "truncated": np.array([True, False, False, False, False])},
            "truncated is true at step 0 of 5: every episode must be by itself",
        ),
        ({"truncated": np.array(1.0)}, r"truncated must be one bool, or 5 of them .* got float64 \(\)"),
        ({"terminated": np.zeros(4, bool)}, r"terminated must be one bool, .* got bool \(4,\)"),
        (
            {"terminated": np.array([False, True, False, False, True])},
            "terminated is true at step 1 of 5: every episode must be by itself",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_file(pendulum, change, message, tmp_path):
    path = folder(tmp_path / "d", episode(), episode(**change))
    with pytest.raises(UsageError, match=message) as raised:
        data.load(path, pendulum)
    assert str(raised.value).startswith(f"{path}/1.npz: ")
    assert "\n" not in str(raised.value)


def test_files_that_are_no_episodes_are_one_line(pendulum, tmp_path):
    with pytest.raises(UsageError, match="none is not a folder of episodes; `fewstep evaluate --save"):
        data.load(str(tmp_path / "none"), pendulum)
    with pytest.raises(UsageError, match=r"empty holds no episodes \(\*\.npz\)"):
        data.load(folder(tmp_path / "empty"), pendulum)
    lacking = episode()
    del lacking["rewards"], lacking["truncated"]
    with pytest.raises(UsageError, match=r"0\.npz has no rewards, truncated"):
        data.load(folder(tmp_path / "lacking", lacking), pendulum)
    for number, content in enumerate([b"", b"nonsense", b"PK\x03\x04 torn"]):
        path = tmp_path / str(number)
        path.mkdir()
        (path / "0.npz").write_bytes(content)
        with pytest.raises(
            UsageError, match=r"0\.npz (is no npz file|cannot be read as an episode: )"
        ) as raised:
            data.load(str(path), pendulum)
        assert "\n" not in str(raised.value)
    objects = folder(tmp_path / "objects", episode(rewards=np.array([None] * 5)))
    with pytest.raises(UsageError, match="cannot be read as an episode: "):
        data.load(objects, pendulum)


def test_the_hash_is_that_of_the_content(pendulum, tmp_path):
    """Not of names of files or their compression; of every value, and of where episodes end."""
    first = data.load(folder(tmp_path / "a", episode(), episode(3)), pendulum).summary.sha256
    (tmp_path / "b").mkdir()
    np.savez_compressed(tmp_path / "b" / "x.npz", **episode())
    np.savez(tmp_path / "b" / "y.npz", **episode(3))
    assert data.load(str(tmp_path / "b"), pendulum).summary.sha256 == first
    others = [
        [episode(3), episode()],
        [episode()],
        [episode(), episode(3, terminated=np.array(True))],
        [episode(), episode(3, rewards=np.zeros(5))],
        [episode(), episode(3, actions=np.zeros((5, 1)))],
        [episode(), episode(4)],
    ]
    found = {
        data.load(folder(tmp_path / f"c{number}", *each), pendulum).summary.sha256
        for number, each in enumerate(others)
    }
    assert len(found) == len(others)
    assert first not in found


def test_observations_of_a_dict_space_may_be_flat_or_as_they_are():
    class Two(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(
            {"a": gymnasium.spaces.Box(-9, 9, (2,)), "b": gymnasium.spaces.Discrete(2)}
        )
        action_space = gymnasium.spaces.Box(-1, 1, (1,))

    vector = envs.make(Two)
    interface = Interface(vector)
    flat = np.array([[1, 2, 1, 0], [3, 4, 0, 1]], np.float32)
    nested = {"a": flat[:, :2], "b": np.array([0, 1])}
    np.testing.assert_array_equal(interface.flat_rows(flat), flat)
    np.testing.assert_array_equal(interface.flat_rows(nested), flat)
    with pytest.raises(UsageError, match="observation has no entry 'b'"):
        interface.flat_rows({"a": flat[:, :2]})
    vector.close()


# ----------------------------------------------------------------------------------------- Minari


def fake(*episodes):
    """As much of Minari as is used: its names, and its flags of one bool per step."""

    def load_dataset(name):
        if name != "pendulum/test-v0":
            raise FileNotFoundError(f"Dataset {name} not found locally at /data.\nmore")
        given = [
            SimpleNamespace(
                id=number,
                observations=one["observations"],
                actions=one["actions"],
                rewards=one["rewards"],
                terminations=np.array([False] * 4 + [bool(one["terminated"])]),
                truncations=np.array([False] * 4 + [bool(one["truncated"])]),
            )
            for number, one in enumerate(episodes)
        ]
        return SimpleNamespace(iterate_episodes=lambda: iter(given))

    return SimpleNamespace(load_dataset=load_dataset)


def test_minari_gives_what_the_same_files_give(pendulum, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", fake(episode(), episode(3)))
    found = data.load("minari:pendulum/test-v0", pendulum)
    assert (
        found.summary.sha256
        == data.load(folder(tmp_path / "d", episode(), episode(3)), pendulum).summary.sha256
    )
    assert found.summary.source == "minari:pendulum/test-v0"
    with pytest.raises(
        UsageError, match=r"minari cannot open 'other': .*not found locally.* `minari down"
    ) as e:
        data.load("minari:other", pendulum)
    assert "\n" not in str(e.value)
    monkeypatch.setitem(sys.modules, "minari", fake(episode(), episode(actions=np.full((5, 1), 3.0))))
    with pytest.raises(UsageError, match=r"^minari:pendulum/test-v0, episode 1: actions"):
        data.load("minari:pendulum/test-v0", pendulum)
    monkeypatch.setitem(sys.modules, "minari", fake())
    with pytest.raises(UsageError, match=r"^minari:pendulum/test-v0 holds no episodes"):
        data.load("minari:pendulum/test-v0", pendulum)


def test_without_minari_it_says_what_to_install(pendulum, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UsageError, match=r"minari is not installed; pip install 'fewstep\[data\]'"):
        data.load("minari:pendulum/test-v0", pendulum)


# ---------------------------------------------------------------------------------------- writing


def test_a_tape_gives_back_what_was_played(pendulum, tmp_path):
    tape = Tape()
    tape.begin(np.full(3, 9.0, np.float32))  # an episode that began anew is forgotten
    tape.step(np.zeros(1, np.float32), 9.0, False, np.full(3, 9.0, np.float32))
    obs = np.arange(9, dtype=np.float32).reshape(3, 3)
    tape.begin(obs[0])
    tape.step(np.array([0.5], np.float32), 1.5, False, obs[1])
    tape.step(np.array([-7.0], np.float32), 2.5, True, obs[2])
    out = Folder(tmp_path / "new" / "d")
    out.write("one", tape.episode(pendulum))
    [(name, found)] = read(tmp_path / "new" / "d")
    assert name == str(tmp_path / "new" / "d" / "one.npz")
    np.testing.assert_array_equal(found.observations, obs)
    np.testing.assert_array_equal(found.actions, [[1.0], [-2.0]])
    assert found.rewards.tolist() == [1.5, 2.5]
    assert (bool(found.terminated), bool(found.truncated)) == (True, False)
    with pytest.raises(UsageError, match="d is not empty; choose another folder"):
        Folder(tmp_path / "new" / "d")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*file"):
        Folder(tmp_path / "file")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A pendulum learned for a moment, with time limit 30."""
    path = tmp_path_factory.mktemp("runs") / "run"
    sets = ["training.max_episode_steps=30", "training.eval_every=0"]
    assert train(path, env="Pendulum-v1", steps=60, sets=sets) == 0
    return path


def test_an_evaluation_writes_its_episodes(run, pendulum, tmp_path, capsys):
    """Their returns are those it prints; played again, the actions give the same observations."""
    words = ["evaluate", str(run), "--episodes", "3", "--actions", "sample", "--json"]
    assert main([*words, "--save-episodes", str(tmp_path / "d")]) == 0
    out = capsys.readouterr().out
    (tmp_path / "rows").write_text(out)
    [row] = rows(tmp_path / "rows")
    found = [one for _, one in read(tmp_path / "d")]
    assert [path.name for path in sorted((tmp_path / "d").iterdir())] == [
        f"sample-0000{number}.npz" for number in range(3)
    ]
    for one, value, length, seed in zip(found, row["returns"], row["lengths"], row["seeds"], strict=True):
        assert one.rewards.sum(dtype=float) == pytest.approx(value)
        assert len(one.rewards) == length == 30
        assert (bool(one.terminated), bool(one.truncated)) == (False, True)
        env = gymnasium.make("Pendulum-v1")
        np.testing.assert_array_equal(env.reset(seed=seed)[0], one.observations[0])
        for action, after in zip(one.actions, one.observations[1:], strict=True):
            np.testing.assert_array_equal(env.step(action)[0], after)
        env.close()
    assert data.load(str(tmp_path / "d"), pendulum).summary.episodes == 3
    assert main([*words, "--save-episodes", str(tmp_path / "d")]) == 2
    one_line(capsys.readouterr().err, "d is not empty")


def test_episodes_played_in_turn_are_the_same(run, tmp_path, capsys):
    """On one environment, and in both modes of a run."""
    words = ["--episodes", "2", "--actions", "sample", "--actions", "mode", "--save-episodes"]
    assert main(["evaluate", str(run), *words, str(tmp_path / "a")]) == 0
    text = (run / "config.toml").read_text()
    try:
        (run / "config.toml").write_text(text.replace('eval_env = "own"', 'eval_env = "shared"'))
        assert main(["evaluate", str(run), *words, str(tmp_path / "b")]) == 0
    finally:
        (run / "config.toml").write_text(text)
    left, right = (dict(read(tmp_path / name)) for name in "ab")
    assert len(left) == len(right) == 4
    for one, other in zip(left.values(), right.values(), strict=True):
        assert isinstance(one, Episode)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
