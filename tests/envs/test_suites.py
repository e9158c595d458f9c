"""The suites beyond Gymnasium's own: what is listed is there, and an episode is its seed and actions."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import gymnasium
import numpy as np
import pytest

from fewstep import envs
from fewstep.envs.rendering import choose_backend_at_import
from fewstep.envs.suites.dmc import ControlEnv
from fewstep.errors import UsageError
from fewstep.suites import SUITES, suite_of
from fewstep.suites.dmc import LIMIT
from fewstep.training.collect.episodes import Episodes

SPREAD = (
    "dmc/walker-walk",
    "dmc/reacher-hard",  # its target is written into the model
    "dmc/ball_in_cup-catch",
    "dmc/quadruped-walk",
    "maze/PointMaze_Open_Diverse_GR-v3",
    "maze/AntMaze_UMaze-v4",
)


def rollout(vector, seed, steps=25):
    """Observations and rewards of an episode with fixed actions."""
    rng = np.random.default_rng(1)
    rows = [vector.reset([seed])]
    for _ in range(steps):
        result = vector.step(rng.uniform(-1, 1, (1, vector.spec.act_size)).astype(np.float32))
        rows += [result.obs, result.reward]
    return np.concatenate([row.ravel() for row in rows])


def test_the_suites_packages_are_there():
    """But for Push-T's and HumanoidBench, they are in the extra ``dev``: what is tested here is not left out
    silently."""
    missing = [suite.name for suite in SUITES if suite.modules and not suite.installed]
    assert set(missing) <= {"pusht", "hb", "brax", "gymnax", "mjx"}


@pytest.mark.parametrize(
    "suite", [s for s in SUITES if s.entry_point.startswith("fewstep.envs")], ids=lambda s: s.name
)
def test_gymnasium_takes_the_entry_point(suite):
    """Version 1.3, which gymnax asks for, refuses one whose ``metadata`` is a property: a wrapper's class."""
    module, name = suite.entry_point.split(":")
    entry = getattr(importlib.import_module(module), name)
    assert isinstance(getattr(entry, "metadata", {}), dict)


def test_control_tasks_are_those_of_the_package_but_for_the_unbounded_ones():
    choose_backend_at_import()  # it looks for a screen otherwise
    from dm_control import suite

    known = {f"dmc/{domain}-{task}" for domain, task in suite.ALL_TASKS if domain != "lqr"}
    assert known == {env_id for env_id, name, _ in envs.list_ids() if name == "dmc"}


def test_mazes_are_those_of_the_package_with_its_limits():
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    known = {
        f"maze/{key}": spec.max_episode_steps
        for key, spec in gymnasium.registry.items()
        if key.startswith("PointMaze") or (key.startswith("AntMaze") and not key.endswith("-v3"))
    }
    assert known == suite_of("maze/AntMaze_UMaze-v5").limits
    assert len(known) == 60


@pytest.mark.parametrize("env_id", SPREAD)
def test_an_episode_is_a_function_of_its_seed_and_actions(env_id):
    used, fresh = envs.make(env_id), envs.make(env_id)
    rollout(used, 7)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the user's own generator)
    first, second, other = rollout(used, 5), rollout(fresh, 5), rollout(fresh, 6)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.array_equal(first, second)
    assert not np.array_equal(second, other)
    used.close()
    fresh.close()


def test_it_is_the_same_in_another_process():
    code = f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import numpy as np
        np.random.seed(9)
        from test_suites import envs, rollout
        print(rollout(envs.make("dmc/walker-walk"), 5).tolist())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert np.array_equal(json.loads(run.stdout), rollout(envs.make("dmc/walker-walk"), 5))


def test_the_flat_observation_is_the_packages_own_order():
    ours = envs.make("dmc/walker-walk")
    from dm_control import suite

    theirs = suite.load("walker", "walk", task_kwargs={"random": 3})
    parts = theirs.reset().observation.values()
    flat = ours.reset([3])[0]
    assert np.array_equal(flat, np.concatenate([np.ravel(part) for part in parts]).astype(np.float32))
    assert [ours.observation_name(index).split("[")[1] for index in (0, 14)] == [
        "'orientations']",
        "'height']",
    ]


@pytest.mark.parametrize("limit", [None, 7])
def test_a_control_episode_is_truncated_at_its_limit_and_never_terminates(limit):
    vector = envs.make("dmc/cartpole-swingup", max_episode_steps=limit)
    assert vector.max_episode_steps == (limit or LIMIT)
    vector.reset([0])
    total = 0.0
    for step in range(limit or LIMIT):
        result = vector.step(np.zeros((1, 1), np.float32))
        total += float(result.reward[0])
        assert not result.terminated[0]
        assert result.truncated[0] == (step + 1 == (limit or LIMIT))
    assert 0.0 <= total <= 1000.0


def test_an_end_with_discount_zero_is_terminal(monkeypatch):
    import dm_env

    env = ControlEnv("cartpole-swingup")
    env.reset(seed=0)
    last = dm_env.termination(0.5, {"position": np.zeros(3), "velocity": np.zeros(2)})
    monkeypatch.setattr(env._env, "step", lambda action: last)
    assert env.step(np.zeros(1))[1:4] == (0.5, True, False)
    cut = dm_env.truncation(0.5, {"position": np.zeros(3), "velocity": np.zeros(2)})
    monkeypatch.setattr(env._env, "step", lambda action: cut)
    assert env.step(np.zeros(1))[1:4] == (0.5, False, True)


@pytest.mark.parametrize(
    ("env_id", "module", "line"),
    [
        ("dmc/dog-run", "dm_control", "dmc/dog-run belongs to the DeepMind Control suite, .* pip install"),
        ("maze/PointMaze_Open-v3", "gymnasium_robotics", r"not installed: pip install 'fewstep\[maze\]'"),
    ],
)
def test_a_suite_that_is_not_installed_says_what_to_install(env_id, module, line, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(UsageError, match=line):
        envs.make(env_id)


def test_a_task_that_draws_at_every_reset_says_what_it_needs():
    code = """
        from fewstep import envs
        envs.make("dmc/quadruped-escape").reset([0])
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("fewstep.errors")]
    assert "reset raised RuntimeError: No OpenGL rendering backend is available." in line
    assert "(MUJOCO_GL is disable); without a screen install libegl1 and libgl1" in line


def test_listing_and_naming_import_no_suite():
    code = """
        import sys
        from fewstep import envs
        envs.list_ids()
        assert not {"dm_control", "gymnasium_robotics", "mujoco", "jax"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize(
    "env_id", ["dmc/reacher-hard", "dmc/dog-run", "dmc/finger-turn_hard", "maze/AntMaze_UMaze-v5"]
)
def test_a_resume_in_mid_episode_goes_on_exactly(env_id):
    vector, again = envs.make(env_id, max_episode_steps=20), envs.make(env_id, max_episode_steps=20)
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 1, vector.spec.act_size)).astype(np.float32)

    def go_on(episodes, actions):
        rows = []
        for action in actions:
            rows.append(episodes.step(action))
            episodes.kept()
            episodes.begin()
        return rows

    whole = Episodes(vector, 3)
    go_on(whole, actions[:30])  # in its second episode
    saved = whole.snapshot()
    resumed = Episodes(again, 3)
    assert resumed.restore(*saved, steps=30) == [""]
    for left, right in zip(go_on(whole, actions[30:]), go_on(resumed, actions[30:]), strict=True):
        assert np.array_equal(left.obs, right.obs)
        assert np.array_equal(left.reward, right.reward)
