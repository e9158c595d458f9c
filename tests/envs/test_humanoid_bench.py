"""HumanoidBench: by a package with its faults everywhere, and the real one where there is a clone."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from fewstep import envs
from fewstep.envs.suites import humanoid_bench
from fewstep.envs.suites.humanoid_bench import HumanoidBench
from fewstep.errors import UsageError
from fewstep.runs import provenance
from fewstep.suites.humanoid_bench import SUITE
from fewstep.training.collect.episodes import Episodes

FAKE = Path(__file__).parent / "fake_clone"
TASKS = ("h1-walk", "h1-reach", "h1-package", "h1hand-spoon", "h1-highbar_simple")
real = pytest.mark.skipif(
    not os.environ.get("FEWSTEP_HUMANOID_BENCH") and importlib.util.find_spec("humanoid_bench") is None,
    reason="needs a clone of HumanoidBench, which is on no package index",
)


@pytest.fixture
def clone(monkeypatch):
    """The small package in place of the real one."""
    monkeypatch.setenv("FEWSTEP_HUMANOID_BENCH", str(FAKE))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(humanoid_bench, "_heights", set())
    known = set(gymnasium.registry)
    yield FAKE
    for name in [name for name in sys.modules if name.split(".")[0] == "humanoid_bench"]:
        del sys.modules[name]
    for env_id in set(gymnasium.registry) - known:
        del gymnasium.registry[env_id]


def rollout(vector, seed, steps=12):
    rng = np.random.default_rng(1)
    rows = [vector.reset([seed])]
    for _ in range(steps):
        action = 0.1 * rng.uniform(-1, 1, (1, vector.spec.act_size)).astype(np.float32)
        rows.append(vector.step(action).obs)
    return np.stack(rows)


def in_use_and_fresh(env_id, global_seed=0):
    """An episode of seed 5 after one of seed 7 to the end of its steps, and in an environment of its own."""
    np.random.seed(global_seed)  # noqa: NPY002
    used, fresh = envs.make(env_id), envs.make(env_id)
    rollout(used, 7)
    return rollout(used, 5), rollout(fresh, 5)


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_a_function_of_its_seed_and_actions(task, clone):
    used, fresh = in_use_and_fresh(f"hb/{task}-v0")
    again, _ = in_use_and_fresh(f"hb/{task}-v0", global_seed=1)
    assert np.array_equal(used, fresh)
    assert np.array_equal(used, again)


@pytest.mark.parametrize("task", TASKS[1:])
def test_the_package_as_it_is_lets_an_episode_depend_on_others(task, clone, monkeypatch):
    """So the test above can fail."""
    monkeypatch.setattr(
        HumanoidBench, "reset", lambda self, *, seed=None, options=None: self.env.reset(seed=seed)
    )
    used, fresh = in_use_and_fresh(f"hb/{task}-v0")
    assert not np.array_equal(used, fresh)


def test_the_users_own_generator_is_left_as_it_was(clone):
    vector = envs.make("hb/h1-reach-v0")
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.uniform(size=3)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    rollout(vector, 5)
    vector.reset([None])
    assert np.array_equal(np.random.uniform(size=3), expected)  # noqa: NPY002


def test_resets_without_a_seed_follow_from_the_last_one_with_a_seed(clone):
    one, other = envs.make("hb/h1-reach-v0"), envs.make("hb/h1-reach-v0")
    starts = [[vector.reset([seed]) for seed in (5, None, None)] for vector in (one, other)]
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0][1], starts[0][2])


def test_an_episode_succeeds_when_its_return_has_reached_the_bar(clone):
    vector = envs.make("hb/h1-walk-v0")
    for _ in range(2):
        vector.reset([0])
        said = [float(vector.step(np.zeros((1, 2), np.float32)).success[0]) for _ in range(4)]
        assert said == [0.0, 0.0, 1.0, 1.0]  # the bar is 3, a step pays 1


def test_what_a_task_prints_is_dropped(clone, capfd):
    rollout(envs.make("hb/h1hand-cube-v0"), 0)
    assert capfd.readouterr() == ("", "")


def test_a_picture(clone):
    vector = envs.make("hb/h1-walk-v0", render_mode="rgb_array")
    vector.reset([0])
    picture = vector.render()
    assert picture.shape == (480, 480, 3)
    assert picture.std() > 0
    with pytest.raises(TypeError):
        gymnasium.make("h1-walk-v0", disable_env_checker=True).unwrapped.render()  # what upstream does


def test_the_table_of_sizes_loses_what_mujoco_has_no_more_and_nothing_else(clone):
    envs.make("hb/h1-walk-v0")
    sizes = sys.modules["humanoid_bench.dmc_deps.dmc_sizes"].array_sizes
    assert set(sizes["mjmodel"]) == {"qpos0", "body_pos"}
    assert set(sizes["mjdata"]) == {"qpos", "qvel"}


def test_robots_of_two_heights_are_refused_in_one_process(clone):
    envs.make("hb/h1-walk-v0")
    for _ in range(2):
        with pytest.raises(UsageError, match="cannot have a G1 and another robot in one process"):
            envs.make("hb/g1-walk-v0")
    envs.make("hb/h1-walk-v0")


def test_a_resume_in_mid_episode_goes_on_exactly(clone):
    vector, again = (envs.make("hb/h1-reach-v0", max_episode_steps=20) for _ in range(2))
    actions = np.random.default_rng(0).uniform(-0.1, 0.1, (40, 1, 2)).astype(np.float32)

    def go_on(episodes, actions):
        seen = []
        for action in actions:
            seen.append(episodes.step(action).obs)
            episodes.kept()
            episodes.begin()
        return np.stack(seen)

    whole, resumed = Episodes(vector, 3), Episodes(again, 3)
    go_on(whole, actions[:30])
    saved = whole.snapshot()
    assert resumed.restore(*saved, steps=30) == [""]
    assert np.array_equal(go_on(whole, actions[30:]), go_on(resumed, actions[30:]))


def test_it_trains_in_a_process_beside_and_says_whether_it_succeeded(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fewstep",
        "train",
        "sac",
        "hb/h1-reach-v0",
        "--preset",
        "small",
        "--quiet",
    ]
    command += ["--steps", "40", "--out", str(tmp_path / "run")]
    for setting in ("env_process=true", "max_episode_steps=10", "eval_every=40", "eval_episodes=2"):
        command += ["--set", f"training.{setting}"]
    env = os.environ | {"FEWSTEP_HUMANOID_BENCH": str(FAKE)}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    rows = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    assert all(json.loads(row)["success"] == [1.0, 1.0] for row in rows)


def test_its_version_is_the_commit_of_the_checkout(clone, tmp_path, monkeypatch):
    copy = tmp_path / "clone"
    shutil.copytree(clone, copy)

    def git(*command):
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        run = subprocess.run(
            ["git", "-C", str(copy), *identity, *command], check=True, capture_output=True, text=True
        )
        return run.stdout.strip()

    monkeypatch.syspath_prepend(str(copy))
    assert provenance.versions(("humanoid_bench",)) == {"humanoid_bench": None}
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "as it is")
    commit = git("rev-parse", "HEAD")[:12]
    found = provenance.versions(("mujoco", "humanoid_bench"))
    assert provenance.simulator_words(found) == f"MuJoCo {found['mujoco']}, HumanoidBench {commit}"
    (copy / "humanoid_bench" / "env.py").write_text("")
    assert provenance.versions(("humanoid_bench",)) == {"humanoid_bench": f"{commit}+"}


def test_what_is_listed_has_a_model_file_upstream():
    """Counts of model files at commit 791405f, by robot; kitchen is refused by MuJoCo."""
    listed = [env_id.removeprefix("hb/").split("-")[0] for env_id in SUITE.tasks]
    counts = {robot: listed.count(robot) for robot in sorted(set(listed))}
    assert counts == {"g1": 29, "h1": 20, "h1hand": 29, "h1simplehand": 1, "h1strong": 1, "h1touch": 29}
    assert len(SUITE.tasks) + len(SUITE.excluded) == 6 * 32


@pytest.mark.parametrize(
    ("env_id", "line"),
    [
        ("hb/h1-walk-v0", r"not installed: git clone .*humanoid-bench; .*FEWSTEP_HUMANOID_BENCH"),
        ("hb/h1-cube-v0", "cannot be trained on: HumanoidBench has no model file for it"),
        ("hb/h1hand-kitchen-v0", "MuJoCo 3.17 refuses its model file"),
        ("hb/h1-wlk-v0", "did you mean 'hb/h1-walk-v0'"),
        ("dmc/lqr-lqr_2_1", "its actions have no bounds"),
    ],
)
def test_what_cannot_be_built_says_why(env_id, line, monkeypatch):
    monkeypatch.delenv("FEWSTEP_HUMANOID_BENCH", raising=False)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "humanoid_bench" else found(name)
    )
    with pytest.raises(UsageError, match=line):
        envs.make(env_id)


def test_a_folder_without_the_package_and_a_package_without_its_files(tmp_path, monkeypatch, clone):
    monkeypatch.setenv("FEWSTEP_HUMANOID_BENCH", str(tmp_path))
    with pytest.raises(UsageError, match=r"FEWSTEP_HUMANOID_BENCH is .*, which holds no package"):
        envs.make("hb/h1-walk-v0")
    (tmp_path / "humanoid_bench").mkdir()
    (tmp_path / "humanoid_bench" / "__init__.py").touch()
    with pytest.raises(UsageError, match=r"this copy of HumanoidBench has no .*dmc_sizes\.py"):
        envs.make("hb/h1-walk-v0")


@real
@pytest.mark.parametrize(
    "env_id", ["hb/h1-reach-v0", "hb/h1-package-v0", "hb/h1hand-spoon-v0", "hb/h1-highbar_simple-v0"]
)
def test_the_real_package_is_a_function_of_its_seed(env_id):
    used, fresh = in_use_and_fresh(env_id)
    assert np.array_equal(used, fresh)


@real
def test_the_real_package_has_the_limits_and_sizes_of_the_list():
    for env_id, sizes in {"hb/h1-walk-v0": (51, 19), "hb/h1hand-walk-v0": (151, 61)}.items():
        vector = envs.make(env_id)
        assert (vector.spec.obs_size, vector.spec.act_size) == sizes
    for env_id in SUITE.tasks:
        assert gymnasium.spec(env_id.removeprefix("hb/")).max_episode_steps == SUITE.limits[env_id]
