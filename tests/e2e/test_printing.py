"""What was computed does not depend on whether it can be printed."""

import io
import os
import subprocess
import sys

import pytest

from fewstep import printing
from fewstep.training.run.progress import RunReporter, Screen
from tests.e2e.helpers import FAST, TINY, process, rows, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("printing") / "run"
    assert train(path, steps=100) == 0
    return path


def test_an_alphabet_without_our_signs(run):
    done = process("evaluate", run, "--episodes", "2", "--actions", "mode", env={"PYTHONIOENCODING": "ascii"})
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert out.isascii()
    assert "+-" in out
    assert "toy/multigoal after 100 steps" in out


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "<&- 1>&- 2>&-"])
def test_closed_streams_end_no_run_and_nothing_is_printed_into_its_files(closed, tmp_path):
    """The numbers of closed streams must not go to the run's own files, which libraries would print into."""
    words = [sys.executable, "-m", "fewstep", "train", TINY, "toy/multigoal", "--steps", "100"]
    words += ["--out", str(tmp_path / "run"), "--set", *FAST]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *words], capture_output=True, text=True)
    assert done.returncode == 0
    assert rows(tmp_path / "run" / "metrics.jsonl")[-1]["env_steps"] == 100


def test_a_reader_that_leaves_ends_no_run(tmp_path):
    done = process(
        "train", TINY, "toy/multigoal", "--steps", "400", "--out", tmp_path / "run", "--set", *FAST
    )
    done.stderr.close()
    done.stdout.read()
    assert done.wait() == 0
    assert "step 400 / 400" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_result_that_cannot_be_written_is_one_line_and_a_status(run):
    words = [sys.executable, "-m", "fewstep", "config", "sac", "toy/bandit"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["fewstep: No space left on device"]


class Broken(io.StringIO):
    encoding = "ascii"

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")


class BrokenTerminal(Broken):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Broken(), BrokenTerminal(), None])
def test_progress_on_a_stream_that_is_gone(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    row = {"env_steps": 5, "updates": 1, "episode_return": None, "wall_env_steps_per_second": 1.0}
    with Screen(10, quiet=False) as screen, RunReporter(tmp_path / "log.txt", 10, screen) as reporter:
        reporter.note("one ± two \udcff")  # a file name that is no text
        reporter.step(5, 1)
        reporter.interval(row)
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "one ± two \\udcff"
    assert len(lines) == 2


def test_the_streams_are_given_back(capsys):
    before = sys.stderr, sys.stdout.errors
    with printing.robust():
        assert sys.stderr is not before[0]
        print("kept", file=sys.stderr)
    assert (sys.stderr, sys.stdout.errors) == before
    assert capsys.readouterr().err == "kept\n"
