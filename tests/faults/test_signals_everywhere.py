"""SIGINT and SIGTERM at every kind of moment: saved there, the right status, and the same bits in the end."""

import json
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fewstep.cli import main
from fewstep.runs import checkpoint
from tests.e2e.helpers import process, without_clock
from tests.experiments.common import wait_for
from tests.faults.signalling_env import send

ENV = "tests.faults.signalling_env:Signals-v0"
ALGORITHM = "tests.faults.signalling:ALGORITHM"
STEPS = 300
SETS = ["replay.learning_starts=50", "replay.batch_size=8", "training.log_every=50"]
SETS += ["training.eval_every=200", "training.eval_episodes=2", "replay.capacity=250"]
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
MOMENTS = {
    # moment: the first and the last step at which the run may be saved
    "warm-up": (20, 20),
    "compile": (50, 50),
    "collection": (120, 120),
    "update": (200, 203),  # the host learns of it while the device computes
    "evaluation": (200, 200),
    "saving": (150, 300),  # a thread writes and training goes on
}


def words(out, *more, moment="", sets=()):
    every = 150 if moment == "saving" else 0
    start = ["train", ALGORITHM, ENV, "--steps", STEPS, "--out", out, *more, "--quiet", "--set"]
    return [str(word) for word in (*start, *SETS, f"training.checkpoint_every={every}", *sets)]


def newest(path):
    saved = checkpoint.load_newest(path / "checkpoints", pytest.fail)
    assert saved is not None
    return saved


def assert_same(run, whole):
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert without_clock(run / name) == without_clock(whole / name)
    left, right = newest(run), newest(whole)
    assert left.env_steps == right.env_steps == STEPS
    for group, arrays in right.groups.items():
        for name, array in arrays.items():
            assert np.array_equal(left.groups[group][name], array), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert main(words(path)) == 0
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two undisturbed seeds, together."""
    path = tmp_path_factory.mktemp("both")
    assert main(words(path, "--seeds", "0,1")) == 0
    return path


@pytest.fixture
def armed(tmp_path, monkeypatch):
    """Gives ``arm(moment, number)`` and lets the writing of a checkpoint be a moment too."""

    def arm(moment, number, whom="process"):
        monkeypatch.setenv("SIGNALS", f"{moment},{int(number)},{whom},{tmp_path / 'sent'}")
        if moment == "compile":
            jax.clear_caches()
        write = checkpoint._write
        monkeypatch.setattr(checkpoint, "_write", lambda *given: (send("saving"), write(*given))[1])
        return dict(os.environ)

    yield arm
    assert (tmp_path / "sent").exists()


def assert_saved(path, moment):
    first, last = MOMENTS[moment]
    assert first <= newest(path).env_steps <= last


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run(moment, number, armed, whole, tmp_path, capsys):
    path = tmp_path / "run"
    armed(moment, number)
    assert main(words(path, moment=moment)) == STATUS[number]
    assert capsys.readouterr().err.splitlines()[-1] == f"fewstep: stopped by {number.name}"
    assert_saved(path, moment)
    assert main(["resume", str(path), "--quiet"]) == 0
    assert_same(path, whole)


@pytest.mark.parametrize(("moment", "number"), list(zip(MOMENTS, [*STATUS] * 3, strict=True)))
def test_several_seeds(moment, number, armed, both, tmp_path):
    paths = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    armed(moment, number)
    assert main(words(tmp_path, "--seeds", "0,1", moment=moment)) == STATUS[number]
    for path in paths:
        assert_saved(path, moment)
    assert main(["resume", *map(str, paths), "--quiet"]) == 0
    for path in paths:
        assert_same(path, both / path.name)


@pytest.mark.parametrize(
    ("moment", "number"), [("collection", signal.SIGINT), ("evaluation", signal.SIGTERM)]
)
def test_environment_processes(moment, number, armed, whole, tmp_path):
    """The environment's process signals the one that it works for."""
    path = tmp_path / "run"
    armed(moment, number)
    assert main(words(path, sets=["training.env_process=true"])) == STATUS[number]
    assert_saved(path, moment)
    assert main(["resume", str(path), "--quiet"]) == 0
    assert_same(path, whole)


def test_a_film_that_is_interrupted_is_not_left_half_made(armed, whole, tmp_path, capsys):
    film = tmp_path / "film.gif"
    armed("video", signal.SIGTERM)
    assert main(["evaluate", str(whole), "--episodes", "1", "--video", str(film)]) == 143
    assert capsys.readouterr().err == "fewstep: stopped by SIGTERM\n"
    assert not film.exists()


def in_a_group(environment, *words):
    """The command in a group of its own; gives its status and what it said."""
    running = process(*words, env=environment, start_new_session=True)
    try:
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    return running.returncode, errors


def test_the_whole_group_with_its_environment_processes(armed, tmp_path):
    """What reaches the process reaches its children too; they must outlive the saving."""
    environment = armed("collection", signal.SIGINT, "group")
    status, errors = in_a_group(
        environment, *words(tmp_path, "--seeds", "0,1", sets=["training.env_process=true"])
    )
    assert status == 130, errors
    for seed in (0, 1):
        assert_saved(tmp_path / f"seed-{seed}", "collection")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a hanging environment is not ended with its run"
)
def test_a_second_signal_leaves_at_once_with_a_hanging_environment(armed, tmp_path):
    """The first is taken note of, but its step never ends. The environment's process goes too."""
    environment = armed("hang", signal.SIGTERM, "group")
    sets = ["training.env_process=true", "training.checkpoint_every=100"]
    running = process(*words(tmp_path / "run", sets=sets), env=environment, start_new_session=True)
    wait_for(lambda: (tmp_path / "sent").exists() or running.poll() is not None)
    assert running.poll() is None
    (worker,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.killpg(running.pid, signal.SIGTERM)
    running.communicate(timeout=20)
    assert running.returncode == 143
    wait_for(lambda: not is_alive(worker), seconds=20)
    assert newest(tmp_path / "run").env_steps == 100


def test_an_experiment(armed, tmp_path):
    """Ctrl-C while one run is at work and one waits: it stops, and the run at work has been saved."""
    environment = armed("collection", signal.SIGINT, "parent's group")
    sets = "".join(f'"{name}" = {value}\n' for name, _, value in (text.partition("=") for text in SETS[:3]))
    (tmp_path / "it.toml").write_text(
        f'envs = ["{ENV}"]\nseeds = [0, 1]\nsteps = 30000\n[[run]]\nalgo = "{ALGORITHM}"\nlabel = "one"\n'
        f'[resources]\njobs = 1\n[set]\n{sets}"training.eval_every" = 0\n'
    )
    folder = tmp_path / "out" / ENV.replace(":", "_")  # random actions were played by an earlier start
    folder.mkdir(parents=True)
    task = {"env": ENV, "max_episode_steps": None, "eval_max_steps": None, "action_repeat": 1}
    record = task | {"returns": [0, 1], "cut": 0}
    (folder / "random_return.json").write_text(json.dumps(record))
    status, errors = in_a_group(environment, "experiment", tmp_path / "it.toml", "--out", tmp_path / "out")
    assert status == 130, errors
    assert errors.splitlines()[-1] == "fewstep: stopped by SIGINT"
    (run,) = (tmp_path / "out").glob("*/one/seed-*")
    steps = newest(run).env_steps
    assert steps >= 120
    assert main(["resume", str(run), "--steps", str(steps + 20), "--quiet"]) == 0
