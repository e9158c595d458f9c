import subprocess
import sys
import textwrap
import warnings

import gymnasium
import numpy as np
import pytest
from fake_env import FakeEnv

from fewstep import envs
from fewstep.algos import registry as algorithms
from fewstep.envs.registry import is_known_here_only, packages_of, packages_used
from fewstep.errors import UsageError
from tests.few import slow

IDS = envs.list_ids()
OFTEN = {
    "dmc/dog-run",
    "dmc/walker-walk",
    "dmc/cheetah-run",
    "maze/PointMaze_Open-v3",
    "maze/AntMaze_UMazeDense-v5",
}


@pytest.mark.parametrize(
    ("env_id", "suite", "note"),
    [
        row
        for env_id, suite, note in IDS
        if suite not in ("hb", "brax", "gymnax", "mjx")  # test_humanoid_bench, training/device/test_suites
        for row in (
            [(env_id, suite, note)]
            if suite not in ("dmc", "maze") or env_id in OFTEN
            else slow((env_id, suite, note))
        )
    ],
    ids=lambda value: value if "/" in value or "-v" in value else "",
)
def test_every_listed_environment_builds_silently_and_its_note_is_true(env_id, suite, note):
    if suite == "pusht":
        pytest.importorskip("gym_pusht", reason="needs pip install 'fewstep[pusht]'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = envs.make(env_id)
    assert vector.reset([0]).shape == (1, vector.spec.obs_size)
    if "observations" in note:
        assert f"{vector.spec.obs_size} observations" in note
    elif "observes" in note:
        version = env_id[-2:]
        sizes = {"v4": note.split("v4 observes ")[1], "v5": note.split("v5 ")[-1]}
        assert sizes[version].startswith(str(vector.spec.obs_size))
    vector.close()


def test_both_versions_of_the_mujoco_tasks_are_listed():
    names = {row[0] for row in IDS if row[1] == "mujoco"}
    assert {"HalfCheetah-v4", "HalfCheetah-v5", "Humanoid-v4", "Humanoid-v5", "Pusher-v5"} <= names
    assert "Pusher-v4" not in names  # needs mujoco < 3


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("HalfCheeta-v4", r"unknown environment 'HalfCheeta-v4'; did you mean 'HalfCheetah-v4'\?"),
        ("Walker-v5", r"did you mean 'Walker2d-v5'\?"),
        ("toy/bandits", r"did you mean 'toy/bandit'\?"),
        (
            "HalfCheetah-v3",
            "HalfCheetah-v3 is no longer part of Gymnasium; use HalfCheetah-v4 or HalfCheetah-v5",
        ),
        ("Pusher-v4", "cannot build environment Pusher-v4: ImportError: .*mujoco<3"),
        ("CartPole-v1", "CartPole-v1 has a Discrete action space"),
        ("dmc/dog-rum", r"did you mean 'dmc/dog-run'\?"),
        ("dm_control/dog-run-v0", r"did you mean 'dmc/dog-run'\?"),
        ("dmc/lqr-lqr_2_1", "dmc/lqr-lqr_2_1 cannot be trained on: its actions have no bounds"),
        (
            "nowhere_at_all:Foo-v0",
            "cannot import 'nowhere_at_all' .* No module named .*; install it or run from",
        ),
        (3, "an environment is an id, a gymnasium.Env, a function .*, or a list of these, not an int"),
        (lambda: 3, "returned an int .3., not a gymnasium.Env"),
    ],
)
def test_what_cannot_be_built_is_one_line(env, message):
    with pytest.raises(UsageError, match=message) as caught:
        envs.make(env)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": -1}, {"max_episode_steps": 0}])
def test_sizes_below_one_are_refused(arguments):
    with pytest.raises(UsageError, match="must be at least 1"):
        envs.make("Pendulum-v1", **arguments)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a user's module into an empty current folder; returns its name."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


USER_MODULE = """
    import gymnasium
    import numpy as np

    class Line(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        action_space = gymnasium.spaces.Box(-1, 1, (1,))
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(1, np.float32), {}
        def step(self, action):
            return np.zeros(1, np.float32), 0.0, False, False, {}
"""


def test_a_users_module_is_found_in_the_current_folder(module):
    name = module(
        "line_env_a",
        USER_MODULE + "    gymnasium.register('LineA-v0', entry_point=Line, max_episode_steps=4)",
    )
    vector = envs.make(f"{name}:LineA-v0")
    assert (vector.env_id, vector.max_episode_steps) == ("line_env_a:LineA-v0", 4)
    assert envs.make(f"{name}:LineA-v0", max_episode_steps=9).max_episode_steps == 9
    with pytest.raises(UsageError, match="did you mean 'LineA-v0'"):
        envs.make(f"{name}:LineAA-v0")
    gymnasium.registry.pop("LineA-v0")


def test_a_class_that_is_not_registered_gets_advice(module):
    name = module("line_env_b", USER_MODULE)
    with pytest.raises(UsageError, match=r"line_env_b:Line is a class, not a registered id; register it"):
        envs.make(f"{name}:Line")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import a_missing_thing", "cannot import 'broken_env' .*: No module named 'a_missing_thing'$"),
        ("x = 1 / 0", "cannot import 'broken_env' .*: ZeroDivisionError: division by zero$"),
        ("def f(:", "cannot import 'broken_env' .*: SyntaxError"),
    ],
)
def test_a_module_that_fails_to_import_is_explained_in_one_line(module, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        envs.make(f"{module('broken_env', text)}:Foo-v0")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_module_that_another_one_of_its_name_hides_is_named_with_both_files(module, monkeypatch):
    name = module("code", USER_MODULE + "    gymnasium.register('Hidden-v0', entry_point=Line)")
    with pytest.raises(
        UsageError, match=r"unknown environment 'Hidden-v0'.*code\.py, which comes before code\.py"
    ):
        envs.make(f"{name}:Hidden-v0")
    with pytest.raises(UsageError, match=r"cannot import 'json\.tasks'.*json/__init__\.py$"):
        envs.make("json.tasks:Hidden-v0")
    with pytest.raises(UsageError, match=r"cannot load algorithm.*code\.py, which comes before code\.py"):
        algorithms.get(f"{name}:ALGORITHM")


def test_an_id_without_its_module_is_told_how_to_name_it():
    with pytest.raises(UsageError, match=r"unknown environment 'Mine-v0'.*my_module:Mine-v0.*config\.toml"):
        envs.make("Mine-v0")


def test_ids_of_this_program_only_are_known_as_such(module):
    gymnasium.register("HereOnly-v0", entry_point=FakeEnv)
    assert is_known_here_only("HereOnly-v0")
    gymnasium.registry.pop("HereOnly-v0")
    assert not any(
        map(is_known_here_only, ("HereOnly-v0", "Pendulum-v1", "toy/bandit", "m:Mine-v0", FakeEnv))
    )


def test_functions_build_environments_too():
    def build():
        return gymnasium.make("Pendulum-v1")

    vector = envs.make(build, 2, max_episode_steps=5)
    assert (vector.env_id, vector.max_episode_steps) == ("Pendulum-v1", 5)
    assert envs.make(FakeEnv).env_id == "FakeEnv"
    vector.reset([0, 1])
    for _ in range(5):
        result = vector.step(np.zeros((2, 1), np.float32))
    assert result.truncated.all()
    assert not result.terminated.any()


def test_which_returns_depend_on_mujoco(monkeypatch):
    for env_id in ("Ant-v5", "Pendulum-v1", "toy/bandit", "dmc/dog-run", "maze/PointMaze_Open-v3"):
        known = packages_of(env_id)
        assert packages_used(env_id) == known
        assert known is not None
        assert ("mujoco" in known) == (env_id not in ("Pendulum-v1", "toy/bandit"))
    assert packages_of("dmc/dog-run") == ("mujoco", "dm_control")
    monkeypatch.setitem(sys.modules, "mujoco", sys)  # its module has imported it, which alone can tell
    assert packages_used("mine:Mine-v0") == ("mujoco",)
    assert packages_used("Pendulum-v1") == ()
    monkeypatch.delitem(sys.modules, "mujoco")
    assert packages_used("mine:Mine-v0") == ()
    assert packages_of("mine:Mine-v0") is None, "of other environments nothing is known"


def test_other_warnings_of_an_environment_are_not_swallowed():
    def build():
        warnings.warn("the gear is worn", DeprecationWarning, stacklevel=1)
        return FakeEnv()

    with pytest.warns(DeprecationWarning, match="the gear is worn"):
        envs.make(build)


def test_the_rooms_without_jax_really_are_without_jax(tmp_path):
    code = (
        "import sys, fewstep.envs, fewstep.replay, fewstep.runs, fewstep.analysis\n"
        "fewstep.envs.make('HalfCheetah-v4').reset([0])\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('jax', 'jaxlib', 'equinox')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""  # and building a MuJoCo task says nothing
    assert list(tmp_path.iterdir()) == []  # nor leaves a log file behind
