"""Training and films without a screen, whatever MUJOCO_GL says: nothing on stderr but fewstep's own lines."""

import os
import subprocess
import sys

import pytest

from tests.few import few

SETTINGS = ("replay.learning_starts=1000", "training.max_episode_steps=10", "training.eval_every=0")
CASES = [
    ("dmc/cheetah-run", None),  # the domain whose model file makes a notice
    ("dmc/cheetah-run", "egl"),
    ("dmc/cheetah-run", "disable"),
    ("maze/PointMaze_UMaze-v3", None),
    ("HalfCheetah-v5", None),
]


def fewstep(backend, *words):
    names = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {} if backend is None else {"MUJOCO_GL": backend}
    command = [sys.executable, "-m", "fewstep", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@few(("env_id", "backend"), CASES, keep=1)
def test_a_run_and_its_film(env_id, backend, tmp_path):
    out, film = str(tmp_path / "run"), tmp_path / "film.mp4"
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    command = ["train", "sac", env_id, "--preset", "small", "--steps", "20", "--out", out, "--quiet", *sets]
    run = fewstep(backend, *command)
    assert (run.returncode, run.stderr) == (0, "")
    made = fewstep(backend, "evaluate", out, "--episodes", "1", "--video", str(film))
    if backend == "disable":
        assert made.returncode == 1
        assert made.stderr.count("\n") == 1
        assert "MUJOCO_GL is disable" in made.stderr
    elif "cannot draw" in made.stderr:
        pytest.skip("no OpenGL on this machine")
    else:
        assert (made.returncode, made.stderr) == (0, "")
        assert film.stat().st_size > 1000
