"""User code may raise anything, at any moment, and change what belongs to the process: nothing is lost."""

import asyncio
import logging
import numbers
import os
import signal
import sys
import threading
import warnings

import numpy as np
import pytest

import fewstep
from fewstep import envs, foreign
from fewstep.cli import main
from fewstep.cli.common import whole
from fewstep.cli.main import parser
from fewstep.deploy import NumpyPolicy
from fewstep.envs import rendering
from fewstep.envs.process import wire
from fewstep.errors import FewstepError
from fewstep.runs import checkpoint
from fewstep.training import signals
from tests.deploy.helpers import TINY as small
from tests.deploy.helpers import exported
from tests.e2e.helpers import FAST, ROOT, TINY, one_line, rows, train
from tests.faults import habits
from tests.faults.habits import at, throw

HABIT = "tests.faults.habits:Habit-v0"
QUIET = ["training.eval_every=0"]
API = {"replay.learning_starts": 20, "replay.batch_size": 8, "replay.capacity": 1000}


class Own(BaseException):
    """An exception that no ``except Exception`` sees."""


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.fixture(autouse=True)
def plan():
    yield habits.PLAN
    habits.PLAN.clear()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes a user's module into the current folder, and the folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name, text):
        (folder / f"{name}.py").write_text(text)
        return folder

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]


def newest(run):
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    return saved


# What is raised


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(), "SystemExit (sys.exit was called)"),
        (SystemExit(0), "sys.exit was called with 0"),
        (GeneratorExit(), "GeneratorExit"),
        (Own("own"), "Own: own"),
        (Unspeakable(), "step raised Unspeakable in"),
        (RuntimeError("\udcff\nmore"), r"RuntimeError: \udcff in"),
    ],
)
def test_whatever_a_step_raises_is_one_line_and_the_work_is_saved(error, said, plan, tmp_path, capsys):
    plan["step"] = at(130, lambda: throw(error))
    assert train(tmp_path / "run", env=HABIT, sets=QUIET) == 1
    one_line(capsys.readouterr().err, said, f"{HABIT} (environment 0, episode step 10, total step 130, seed ")
    assert newest(tmp_path / "run").env_steps == 129
    assert "saved at step 129" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("moment", "status", "said"),
    [("build", 2, "cannot build"), ("spaces", 2, "spaces of"), ("reset", 1, "reset raised")],
)
def test_sys_exit_before_the_first_step_leaves_nothing(moment, status, said, plan, tmp_path, capsys):
    plan[moment] = lambda env: sys.exit(0)
    assert train(tmp_path / "run", env=HABIT) == status
    one_line(capsys.readouterr().err, said, "sys.exit was called with 0")
    assert not (tmp_path / "run").exists()


class Exits:
    """Neither an array nor a number, though it says that it can become both."""

    def __array__(self, *_, **__):
        sys.exit(0)

    def __float__(self):
        sys.exit(0)


numbers.Real.register(Exits)


@pytest.mark.parametrize("at", [0, 1])
def test_values_that_raise_when_they_are_read(at, tmp_path, capsys, monkeypatch):
    """Observation and reward."""
    step = habits.Habit.step

    def bad(self, action):
        result = list(step(self, action))
        result[at] = Exits()
        return tuple(result)

    monkeypatch.setattr(habits.Habit, "step", bad)
    assert train(tmp_path / "run", env=HABIT) == 1
    one_line(capsys.readouterr().err, "sys.exit was called with 0", "episode step 1")


def test_one_of_several_seeds(plan, tmp_path, capsys):
    """The other goes on to its end; the status is not 0."""
    first = []  # environments in the order in which they were stepped
    plan["step"] = lambda env: first.append(env) or (env.life == 130 and env is first[0] and sys.exit())
    words = ["train", TINY, HABIT, "--seeds", "0,1", "--steps", "200", "--out", str(tmp_path), "--quiet"]
    assert main([*words, "--set", *FAST, *QUIET]) == 1
    one_line(capsys.readouterr().err, "1 of 2 seeds failed: seed 0: step raised SystemExit")
    assert [newest(tmp_path / f"seed-{seed}").env_steps for seed in (0, 1)] == [129, 200]


def test_a_keyboard_interrupt_in_one_of_several_seeds_loses_nothing(plan, tmp_path, capsys):
    words = ["--steps", "200", "--quiet", "--set", *FAST, *QUIET]
    assert main(["train", TINY, HABIT, "--seeds", "0,1", "--out", str(tmp_path / "whole"), *words]) == 0
    first = []
    stop = lambda env: env.life == 130 and env is first[0] and throw(KeyboardInterrupt())  # noqa: E731
    plan["step"] = lambda env: first.append(env) or stop(env)
    assert main(["train", TINY, HABIT, "--seeds", "0,1", "--out", str(tmp_path / "cut"), *words]) == 130
    assert [newest(tmp_path / "cut" / f"seed-{seed}").env_steps for seed in (0, 1)] == [129, 130]
    plan.clear()
    assert main(["resume", *(str(tmp_path / "cut" / f"seed-{seed}") for seed in (0, 1)), "--quiet"]) == 0
    for seed in (0, 1):
        cut, whole = (newest(tmp_path / name / f"seed-{seed}").groups["state"] for name in ("cut", "whole"))
        assert all(np.array_equal(cut[name], array) for name, array in whole.items())


@pytest.mark.parametrize("kind", ["environment", "algorithm"])
@pytest.mark.parametrize(
    "text", ["import sys; sys.exit(0)", "import argparse; argparse.ArgumentParser().parse_args()"]
)
def test_a_script_without_a_guard(kind, text, module, capsys, monkeypatch):
    folder = module("users_script", text)
    words = ["train", TINY, "users_script:Mine-v0"]
    if kind == "algorithm":
        words = ["train", "users_script:ALGORITHM", "toy/bandit"]
    monkeypatch.setattr(sys, "argv", ["fewstep", *words])
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]  # argparse prints what it wants before
    one_line(said, "'users_script", 'if __name__ == "__main__":')
    assert [path.name for path in folder.iterdir() if path.suffix != ".py" and path.name[0] != "_"] == []


def test_an_environment_in_a_process_of_its_own(plan, module, tmp_path, capsys):
    text = "import gymnasium\nfrom tests.faults import habits\nhabits.PLAN['step'] = habits.at(130, {})\n"
    module("users_exits", text.format("lambda: habits.throw(SystemExit(0))"))
    module("users_stops", text.format("lambda: habits.throw(KeyboardInterrupt())"))
    for name, said in (("users_exits", "SystemExit"), ("users_stops", "KeyboardInterrupt")):
        plan.clear()
        env = f"{name}:Habit-v0"
        assert train(tmp_path / name, env=env, sets=[*QUIET, "training.env_process=true"]) == 1
        one_line(capsys.readouterr().err, "raised " + said)
        assert newest(tmp_path / name).env_steps == 129


def test_an_interrupted_request_to_a_process_leaves_no_answer_behind(monkeypatch):
    vector = envs.make(HABIT, watch=envs.Supervision())
    vector.reset([3])
    action = np.zeros((1, 2), np.float32)
    receive = wire.receive
    with monkeypatch.context() as patch:
        patch.setattr(wire, "receive", lambda *_: throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            vector.step(action)
    assert wire.receive is receive
    start = vector.reset([3])
    assert start[0, 1] == 0.0  # the answer to the step would say 1
    assert vector.step(action).obs[0, 1] == 1.0
    vector.close()


@pytest.mark.parametrize("error", [RuntimeError("port is gone"), SystemExit(0)])
def test_close_that_raises_costs_nothing(error, plan, tmp_path, capsys):
    closed = []
    plan["close"] = lambda env: closed.append(env) or throw(error)
    assert train(tmp_path / "run", env=HABIT, sets=["training.envs=2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(tmp_path / "run")
    one_line(printed.err, f"close raised {type(error).__name__}", "(and 1 more)", "nothing is lost")
    # Two for training, two for evaluation, one to see that there can be such; each once.
    assert len(closed) == 5 == len(set(map(id, closed)))
    assert "close raised" in (tmp_path / "run" / "log.txt").read_text()
    for words in (["evaluate"], ["export", "--to", "numpy"]):
        assert main([words[0], str(tmp_path / "run"), *words[1:]]) in (0, 2)  # TINY has no export
    found = envs.check_env(HABIT, 5)
    assert any(finding.level == "warning" and "close raised" in finding.message for finding in found)


def test_close_that_raises_in_python(plan, caplog):
    model = fewstep.Model(TINY, HABIT, **API, **{"training.envs": 2})
    plan["close"] = lambda env: sys.exit(0)
    with caplog.at_level(logging.WARNING):
        model.close()
        model.close()
    assert len(caplog.records) == 1
    assert "close raised SystemExit" in caplog.text


def test_a_callback_raises_as_it_is_and_the_model_goes_on():
    model = fewstep.Model(TINY, HABIT, **API, **{"training.log_every": 25})
    for error in (SystemExit(3), Own(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised:
            model.learn(50, lambda row, error=error: throw(error))
        assert raised.value is error
    assert model.learn(50).num_timesteps == 3 * 25 + 50


# What is changed


def test_the_working_folder(module, tmp_path, capsys, plan):
    """Every path means what it meant when the command was typed."""
    here, there = module("users_env", "from tests.faults import habits"), tmp_path / "there"
    there.mkdir()
    plan["build"] = lambda env: os.chdir(there)
    words = ["--steps", "100", "--quiet", "--set", *FAST]
    made = []
    for command in (
        ["train", TINY, "users_env:Habit-v0", "--out", "run", *words],
        ["train", TINY, "users_env:Habit-v0", *words],
        ["train", TINY, "users_env:Habit-v0", "--seeds", "1,2", "--out", "many", *words],
        ["resume", "run", "--steps", "150", "--quiet"],
        ["evaluate", "run", "--episodes", "1", "--video", "film.gif"],
    ):
        os.chdir(here)
        assert main(command) == 0, capsys.readouterr().err
        made.append(capsys.readouterr().out.splitlines()[-1])
    os.chdir(here)
    default = here / "runs" / "users_env_Habit-v0" / TINY.replace(":", "_") / "seed-0"
    assert made == [
        str(here / "run"),
        str(default),
        str(here / "many/seed-2"),
        str(here / "run"),
        str(here / "film.gif"),
    ]
    assert newest(here / "run").env_steps == 150
    assert rows(here / "run" / "metrics.jsonl")[-1]["env_steps"] == 150
    assert (default / "config.toml").exists()
    assert (here / "film.gif").stat().st_size > 0
    assert list(there.iterdir()) == []


def test_the_working_folder_in_an_experiment(module, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    here = module("users_moves", "import os\nfrom tests.faults import habits\nos.chdir('..')\n")
    (here / "two.toml").write_text(
        f'envs = ["users_moves:Habit-v0"]\nsteps = 60\n[[run]]\nalgo = "{TINY}"\nlabel = "tiny"\n'
        '[set]\n"training.eval_every" = 0\n"replay.learning_starts" = 50\n"replay.batch_size" = 8\n'
    )
    assert main(["experiment", "two.toml", "--jobs", "1"]) == 0
    assert os.getcwd() == str(tmp_path)
    assert newest(here / "runs" / "two" / "users_moves_Habit-v0" / "tiny" / "seed-0").env_steps == 60
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_every_path_of_a_command_that_runs_user_code_is_absolute():
    (commands,) = (action.choices for action in parser()._actions if action.dest == "command")
    for name, command in commands.items():
        for action in command._actions:
            if action.type not in (None, int, float, whole) and name not in ("report", "sync"):
                assert action.type("x") == type(action.type("x"))(os.path.abspath("x")), (name, action.dest)


def test_arguments_and_import_path(module, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    text = "import sys\nfrom tests.faults import habits\nsys.argv.clear()\nsys.path[:] = ['/nowhere']\n"
    module("users_clears", text)
    before = list(sys.path)
    assert train(tmp_path / "run", env="users_clears:Habit-v0", sets=QUIET) == 0
    assert set(before) <= set(sys.path)


def strict(env=None):
    np.seterr(all="raise")


@pytest.mark.parametrize("moment", ["build", "reset", "step"])
def test_numpys_error_state_is_the_users_own(moment, plan, tmp_path):
    seen, before = set(), np.geterr()
    plan[moment] = strict
    plan["render"] = lambda env: seen.add(np.geterr()["under"])
    assert train(tmp_path / "run", env=HABIT, sets=["training.eval_every=100"]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--video", str(tmp_path / "film.gif")]) == 0
    assert seen == {"raise"}
    assert np.geterr() == before


def test_a_script_that_has_numpy_raise(tmp_path):
    """The Python API, its environments and an exported policy."""
    with np.errstate(all="raise"):
        model = fewstep.Model(TINY, HABIT, **API)
        model.learn(30)
        model.predict(np.array([0.0, 1.0, 1e-60]))
        model.predict(np.full((2, 3), 1e-60), deterministic=True)
        model.evaluate(1)
        model.save(tmp_path / "model")
        fewstep.load(tmp_path / "model")
        deployed = NumpyPolicy(exported("td3", small["td3"], mode="mode"))
        deployed.act(np.full((2, 5), 1e-60))
        vector = fewstep.make_env(HABIT, 2)
        vector.reset([0, 1])
        vector.step(np.full((2, 2), 1e-40, np.float32))
        assert np.geterr()["under"] == "raise"


def test_warnings_that_are_errors(plan, tmp_path):
    plan["build"] = lambda env: warnings.simplefilter("error")
    with warnings.catch_warnings():
        assert train(tmp_path / "run", env=HABIT) == 0
        assert main(["evaluate", str(tmp_path / "run"), "--video", str(tmp_path / "film.mp4")]) == 0


STEALS = {
    "default": lambda env=None: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    "ignored": lambda env=None: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "own": lambda env=None: signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0)),
    "blocked": lambda env=None: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
}


@pytest.mark.parametrize("moment", ["build", "reset"])
@pytest.mark.parametrize("how", sorted(STEALS))
def test_a_stolen_signal_is_taken_back(how, moment, plan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signals, "LOOK_SECONDS", 0.0)
    handler = signal.getsignal(signal.SIGTERM)
    plan[moment] = STEALS[how]
    plan["step"] = at(130, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        assert train(tmp_path / "run", env=HABIT, sets=QUIET) == 143
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is handler
    one_line(capsys.readouterr().err, "stopped by SIGTERM")
    assert newest(tmp_path / "run").env_steps in (130, 131)  # a blocked one comes when the block is seen
    assert (tmp_path / "run" / "log.txt").read_text().count("SIGTERM had been taken over") == 1


def test_the_way_to_draw_is_chosen_before_the_users_module_is_imported(module, tmp_path, monkeypatch):
    module("users_draws", "import os\nSEEN = os.environ.get('MUJOCO_GL')\nfrom tests.faults import habits\n")
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rendering, "_HEADLESS", {"egl": "libc.so.6"})
    assert train(tmp_path / "run", env="users_draws:Habit-v0", sets=QUIET) == 0
    assert sys.modules.pop("users_draws").SEEN is None
    film = ["--episodes", "1", "--video", str(tmp_path / "film.gif")]
    assert main(["evaluate", str(tmp_path / "run"), *film]) == 0
    assert sys.modules.pop("users_draws").SEEN == "egl"
    monkeypatch.delenv("MUJOCO_GL")
    envs.make("users_draws:Habit-v0", render_mode="rgb_array").close()
    assert sys.modules["users_draws"].SEEN == "egl"


def test_user_code_within_user_code_and_in_threads():
    """A call within a call, and the same context copied into two threads at once."""
    failed = lambda error: FewstepError(str(error))  # noqa: E731
    both = threading.Barrier(2)
    assert foreign.call(failed, foreign.call, failed, foreign.call, failed, int, "3") == 3

    async def together():
        waits = [asyncio.to_thread(foreign.call, failed, both.wait, 30) for _ in range(2)]
        return await asyncio.gather(*waits)

    assert sorted(asyncio.run(together())) == [0, 1]
