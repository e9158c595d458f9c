"""The bar: it moves several times a second and knows the time left from the first update on; what ± means."""

import io
import re
import sys
from datetime import timedelta

import numpy as np
import pytest

import fewstep
from fewstep.runs.metrics import sample_std
from fewstep.training.run import progress
from fewstep.training.run.progress import Pace, RunReporter, Screen
from tests.e2e.helpers import TINY


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


FAST = {"replay.learning_starts": 4, "replay.batch_size": 4, "replay.capacity": 100}


def test_random_steps_and_compiling_do_not_count_in_the_rate():
    pace = Pace(1000)
    pace.step(0, 0, 0.0)
    pace.step(99, 0, 1.0)  # a hundred random steps in a second
    assert pace.left(99, 1.0) is None
    pace.step(100, 1, 31.0)  # compiled for half a minute
    assert pace.left(100, 31.0) is None
    pace.step(110, 11, 33.0)
    assert pace.left(110, 33.0) == timedelta(seconds=178)  # 890 steps, five a second


def test_a_resumed_run_waits_for_its_own_first_update():
    pace = Pace(100)
    pace.step(50, 40, 0.0)
    pace.step(51, 41, 10.0)
    pace.step(61, 51, 11.0)
    assert pace.left(61, 11.0) == timedelta(seconds=4)


def test_the_bar_moves_between_two_logs(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Screen(1000, quiet=False) as screen:
        task = screen._bar.tasks[0]
        seen = []
        for step in range(1, 101):
            now[0] += 0.1
            screen.step(step, max(0, step - 10))
            seen.append((now[0], task.completed, task.fields["left"]))
    moves = [time for (time, done, _), (_, before, _) in zip(seen[1:], seen, strict=False) if done > before]
    assert np.diff(moves).max() <= 1.0
    assert not seen[5][2]
    assert re.fullmatch(r"0:01:3\d left", seen[-1][2])  # 900 steps, ten a second


def test_learn_is_silent_and_prints_lines_or_a_bar_as_asked(monkeypatch):
    def printed(stream, made=0, **asked):
        monkeypatch.setattr(sys, "stderr", stream)
        one = fewstep.Model(TINY, "toy/bandit", verbose=made, **FAST, **{"training.log_every": 5})
        one.learn(12, **asked)
        return stream.getvalue()

    lines = ["step 5 / 12", "step 10 / 12", "step 12 / 12"]
    assert printed(io.StringIO()) == ""
    for text in (
        printed(io.StringIO(), verbose=1),
        printed(io.StringIO(), made=1),
        printed(Terminal(), verbose=1),
        printed(io.StringIO(), progress_bar=True),
    ):
        assert [line.split("  ")[0] for line in text.splitlines()] == lines
    assert printed(io.StringIO(), made=1, verbose=0) == ""
    bar = printed(Terminal(), progress_bar=True)
    assert "12 / 12 steps" in bar
    assert "step 5 / 12" not in bar


def evaluation(returns):
    lengths, cut = [7] * len(returns), [False] * len(returns)
    return {"env_steps": 5, "actions": "mode", "returns": returns, "lengths": lengths, "cut": cut}


@pytest.mark.parametrize("returns", [[1.0, 2.0, 6.0], [3.0, 3.0]])
def test_the_spread_of_a_log_line_is_the_samples(returns, tmp_path):
    with RunReporter(tmp_path / "log.txt", 10, Screen(10, quiet=True)) as reporter:
        reporter.evaluated(evaluation(returns))
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert f"return 3 ± {np.std(returns, ddof=1):.4g} (sample sd) over {len(returns)} episodes" in text


def test_one_episode_has_no_spread(tmp_path, capsys):
    from fewstep.cli.evaluate import _print_table

    assert sample_std([4.0]) is None
    row = evaluation([4.0])
    with RunReporter(tmp_path / "log.txt", 10, Screen(10, quiet=True)) as reporter:
        reporter.evaluated(row)
    assert "return 4 over 1 episode\n" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    _print_table("toy/bandit", [row])
    shown = capsys.readouterr().out
    assert "sample sd" in shown
    assert shown.count("±") == 1  # in the head alone


def test_log_and_evaluation_show_the_same_spread(tmp_path, capsys):
    from fewstep.cli.evaluate import _print_table

    row = evaluation([-100.0, 420.0, 13.0])
    with RunReporter(tmp_path / "log.txt", 10, Screen(10, quiet=True)) as reporter:
        reporter.evaluated(row)
    _print_table("toy/bandit", [row])
    assert "± 273.5" in capsys.readouterr().out
    assert "± 273.5" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_narrow_window_leaves_out_no_digit(monkeypatch, capsys):
    from fewstep.cli.evaluate import _print_table

    monkeypatch.setenv("COLUMNS", "40")
    _print_table(
        "toy/bandit",
        [evaluation([-1234567.0, 1.0]) | {"actions": "best-of-10"}],
    )
    assert "…" not in capsys.readouterr().out
