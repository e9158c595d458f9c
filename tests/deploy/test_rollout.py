"""``fewstep rollout``: exported policies at a fixed rate."""

import json

import pytest

import fewstep
from fewstep.cli import main
from tests.e2e.helpers import one_line


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    model = fewstep.SAC("Pendulum-v1", preset="small", **{"actor.hidden": [8], "critic.hidden": [8]})
    return model.export(tmp_path_factory.mktemp("rollout") / "pole", "numpy")[0]


def test_deadlines_and_returns(policy, capsys):
    assert main(["rollout", str(policy), "--rate", "1000", "--seconds", "0.5", "--json"]) == 0
    told = capsys.readouterr()
    row = json.loads(told.out)
    assert (row["env"], row["rate_hz"], row["ticks"]) == ("Pendulum-v1", 1000.0, 500)
    assert 0 <= row["misses"] <= 500
    assert set(row["milliseconds"]) == {"action", "wake-up", "environment"}
    for times in row["milliseconds"].values():
        assert 0.0 <= times["median"] <= times["99.9 %"] <= times["longest"]
    assert all(-2000.0 < value < 0.0 for value in row["returns"])
    assert "trained at 30 actions per second, run at 1000" in told.err


def test_the_rate_is_that_of_training_unless_it_is_given(policy, capsys):
    assert main(["rollout", str(policy), "Pendulum-v1", "--seconds", "0.2"]) == 0
    told = capsys.readouterr()
    assert "at 30 Hz: 6 ticks of 33.3333 ms" in told.out
    assert "missed deadlines: " in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["MountainCarContinuous-v0"], "takes 3 numbers, not 2"),
        (["--rate", "-1"], "must be positive"),
        (["--rate", "nan"], "must be positive"),
        (["--seconds", "0.001"], "no tick in 0.001 s"),
        (["--seconds", "inf"], "must be positive"),
    ],
)
def test_bad_requests(policy, more, message, capsys):
    assert main(["rollout", str(policy), *more]) == 2
    one_line(capsys.readouterr().err, message)


def test_a_file_that_is_no_policy(tmp_path, capsys):
    assert main(["rollout", str(tmp_path / "nothing.onnx")]) == 2
    one_line(capsys.readouterr().err, "is not a file")
