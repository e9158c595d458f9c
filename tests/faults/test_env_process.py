"""Supervised environments: whatever happens to their process, one line names what, where and when."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fewstep import envs
from fewstep.cli import main
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint
from tests.e2e.helpers import ROOT, TINY, one_line, process, rows, train

BREAKING = "tests.faults.breaking_envs"
PROCESS = ["training.env_process=true", "training.eval_every=0"]


def walk(vector, steps, seed=5):
    """Random actions from a seeded generator, each environment reset when its episode ends; the results."""
    random = np.random.default_rng(seed)
    results = [vector.reset([seed + i for i in range(vector.count)])]
    for t in range(steps):
        action = random.uniform(-1, 1, (vector.count, vector.spec.act_size)).astype(np.float32)
        result = vector.step(action)
        results += [*result]
        ended = result.terminated | result.truncated
        if ended.any():
            results.append(vector.reset([seed + 100 * t] * vector.count, ended))
    return results


@pytest.mark.parametrize(
    ("env", "per_process"), [("Pendulum-v1", 1), ("Hopper-v5", 3), ("maze/PointMaze_UMaze-v3", 3)]
)
def test_a_process_gives_the_same_bits(env, per_process):
    here = envs.make(env, 3, max_episode_steps=30)
    there = envs.make(env, 3, max_episode_steps=30, watch=envs.Supervision(per_process=per_process))
    assert (there.spec, there.max_episode_steps, there.env_id) == (here.spec, 30, env)
    for left, right in zip(walk(here, 70), walk(there, 70), strict=True):
        assert left.dtype == right.dtype
        assert np.array_equal(left, right, equal_nan=left.dtype == np.float32)
    here.close()
    there.close()
    there.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("Raises", "step raised RuntimeError: joint limit in"),
        ("Hangs", "gave no answer within 1 s and was stopped"),
        ("Exits", "exited with status 3"),
        ("Killed", "was ended by SIGKILL"),
        ("ImportsJax", "jax is absent"),
    ],
)
def test_a_failure_is_named_and_what_was_learned_is_saved(how, said, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, env=f"{BREAKING}:{how}-v0", sets=[*PROCESS, "training.env_timeout=1"]) == 1
    place = f"{BREAKING}:{how}-v0 (environment 0, episode step 20, total step 120, seed "
    one_line(capsys.readouterr().err, said, place, "action")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000119"]


@pytest.mark.parametrize(
    ("how", "said"), [("Hangs", "gave no answer within 1 s"), ("Exits", "with status 3")]
)
def test_evaluate_watches_as_training_does(how, said, tmp_path, capsys):
    run = tmp_path / "run"
    shared = ["training.eval_env=shared", "training.max_episode_steps=60"]
    sets = [*PROCESS, "training.env_timeout=1", *shared]
    assert train(run, env=f"{BREAKING}:{how}-v0", sets=sets, steps=60) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--episodes", "3", "--actions", "sample"]) == 1
    one_line(capsys.readouterr().err, said)


@pytest.mark.parametrize("how", ["Hangs", "Exits", "Killed"])
def test_a_replaced_process_costs_its_episode_and_nothing_else(how, tmp_path, monkeypatch):
    monkeypatch.setenv("BREAKS_ONCE", str(tmp_path / "broken"))
    run = tmp_path / "run"
    sets = [*PROCESS, "training.env_timeout=1", "training.env_restarts=1", "training.envs=2"]
    assert train(run, env=f"{BREAKING}:{how}-v0", sets=sets) == 0
    log = (run / "log.txt").read_text()
    assert "it was started again and a new episode begins" in log
    assert "total step 120" in log
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    assert saved.env_steps == 400
    assert len(saved.groups["replay"]["reward"]) == 399  # the step that did not happen is not stored
    lengths = [row["episode_length"] for row in rows(run / "metrics.jsonl")]
    assert set(lengths) <= {50.0, None}


def test_restarts_are_counted(tmp_path, capsys):
    run = tmp_path / "run"
    sets = [*PROCESS, "training.env_restarts=2"]
    assert train(run, env=f"{BREAKING}:Exits-v0", sets=sets) == 1
    one_line(capsys.readouterr().err, "exited with status 3")
    assert (run / "log.txt").read_text().count("started again") == 2
    assert "000000359" in os.listdir(run / "checkpoints")  # 3 lives of 119 steps and two lost ones


def test_a_run_with_processes_equals_one_without(tmp_path):
    sets = ["training.envs=2", "training.env_process=true"]
    assert train(tmp_path / "there", env="Pendulum-v1", steps=300, sets=sets) == 0
    assert train(tmp_path / "here", env="Pendulum-v1", steps=300, sets=sets[:1]) == 0
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert rows(tmp_path / "there" / name) == rows(tmp_path / "here" / name)


def test_processes_end_with_a_trainer_that_is_killed(tmp_path):
    """Also while an environment hangs and cannot notice that its socket has closed."""
    if not os.path.exists("/proc/self/cmdline"):
        pytest.skip("needs /proc")
    words = ["--steps", "1000", "--out", tmp_path / "run", "--set", *PROCESS]
    hanging = tmp_path / "broken"
    running = process("train", TINY, f"{BREAKING}:Hangs-v0", *words, env={"BREAKS_ONCE": str(hanging)})
    assert happens(hanging.exists)
    worker = int(hanging.read_text())
    assert alive(worker)
    running.kill()
    running.communicate(timeout=60)
    assert happens(lambda: not alive(worker))


def test_an_environment_is_closed_and_what_it_started_ends_with_its_process(tmp_path, monkeypatch):
    started = tmp_path / "started"
    monkeypatch.setenv("STARTED", str(started))
    closed = envs.make(f"{BREAKING}:Starts-v0", watch=envs.Supervision())
    program = int(started.read_text())
    closed.close()
    assert started.read_text() == "closed"
    assert gone(program)

    broken = envs.make(f"{BREAKING}:Starts-v0", watch=envs.Supervision())
    program = int(started.read_text())
    with pytest.raises(FewstepError, match="exited with status 3"):  # without a word to its program
        walk(broken, 130)
    assert happens(lambda: gone(program))
    broken.close()


def gone(pid):
    """Not there, or waiting to be reaped by whoever has adopted it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_process_does_not_end_with_the_thread_that_started_it():
    made = []
    thread = threading.Thread(
        target=lambda: made.append(envs.make("Pendulum-v1", watch=envs.Supervision())), daemon=True
    )
    thread.start()
    thread.join()
    made[0].reset([0])
    made[0].close()


def happens(condition):
    """Whether it becomes true within a minute."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def alive(pid):
    """A worker, and neither gone nor waiting to be reaped (that has no command line)."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"fewstep.envs.process.worker" in file.read()
    except OSError:
        return False


def test_a_worker_never_imports_jax():
    program = "import sys, fewstep.envs.process.worker; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_requests_that_make_no_sense(tmp_path, capsys):
    with pytest.raises(UsageError, match="did you mean"):
        envs.make("Pendulum-v11", watch=envs.Supervision())
    with pytest.raises(UsageError, match="only an environment named by its id"):
        envs.make("Pendulum-v1", render_mode="rgb_array", watch=envs.Supervision())
    with pytest.raises(FewstepError, match="infinite bounds"):
        envs.make("tests.e2e.faulty_envs:Unbounded-v0", watch=envs.Supervision())
    assert train(tmp_path / "run", sets=["training.env_restarts=1"]) == 2
    one_line(capsys.readouterr().err, "needs training.env_process=true")
    assert main(["train", "sac", "Pendulum-v1", "--set", "training.env_timeout=0"]) == 2
    one_line(capsys.readouterr().err, "training.env_timeout must be in (0, 1e+06]")
