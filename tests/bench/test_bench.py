"""``fewstep bench``: what it prints and writes, and what it refuses."""

import json

import pytest

from fewstep.bench import peak, stepping
from fewstep.cli import main

TINY = ["--env", "Pendulum-v1", "--repeats", "1", "--set", "actor.hidden=8,8", "critic.hidden=8,8"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(peak, "gemm_peak", lambda: 1e9)
    measure = stepping.measure
    monkeypatch.setattr(stepping, "measure", lambda env: measure(env, seconds=0.01))


@pytest.mark.parametrize("what", ["update", "train"])
def test_a_row_per_algorithm_and_a_file(what, tmp_path, capsys):
    out = tmp_path / "rows.json"
    assert main(["bench", what, "sac", *TINY, "replay.batch_size=8", "--json", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("processor ")
    assert printed[1].split()[0] == what
    assert printed[2].startswith("sac small")
    found = json.loads(out.read_text())
    assert found["machine"]["cores"] >= 1
    (row,) = found["rows"]
    numbers = [value for name, value in row.items() if name not in (what, "compile_seconds", "start_s")]
    assert min(numbers) >= 0
    if what == "update":
        # Eight rows through nets of width eight: some 20,000 operations, at the billion per second of above.
        assert 0.005 < row["floor_ms"] < 0.1
        assert row["ratio"] == pytest.approx(row["min_ms"] / row["floor_ms"], rel=0.1)


def test_acting_is_timed_in_every_runtime(capsys):
    assert main(["bench", "act", "sac", "--env", "Pendulum-v1", "--repeats", "1"]) == 0
    _, head, row = capsys.readouterr().out.splitlines()
    runtimes = ("predict", "jax", "numpy", "onnxruntime", "onnx", "c -O2", "c -O3 native")
    assert head.split() == ["us", "per", "action", *" ".join(runtimes).split()]
    name, *times = row.split()
    assert name == "sac"
    assert len(times) == len(runtimes)
    assert min(map(float, times)) > 0


@pytest.mark.slow
def test_every_algorithm_acts_at_the_sizes_of_its_paper(capsys):
    assert main(["bench", "act", "qsm", "sac", "--env", "Pendulum-v1", "--repeats", "1", "--all"]) == 0
    _, head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[3:5] == ["evaluations", "predict"]
    assert [row.split()[:3] for row in rows] == [
        ["qsm", "sample", "5"],
        ["qsm", "native", "5"],
        ["sac", "sample", "1"],
        ["sac", "native", "1"],
    ]


def test_environments(capsys):
    assert main(["bench", "envs", "Pendulum-v1"]) == 0
    assert "Pendulum-v1" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["update", "ppo", "--env", "Pendulum-v1"], "ppo learns once per rollout"),
        (["update", "sacc", "--env", "Pendulum-v1"], "did you mean 'sac'"),
        (["train", "sac", "--env", "HalfCheeta-v4"], "HalfCheeta-v4"),
        (["train", "sac", "--all"], "--all belongs to"),
        (["envs", "HalfCheeta-v4"], "HalfCheeta-v4"),
        (["act", "sac", "--set", "actor.hidden=8"], "leave --set out"),
        (["act", "--all", "--preset", "small"], "leave --preset out"),
        (["envs", "Pendulum-v1", "--preset", "small"], "leave --env, --preset and --set out"),
        (["update", "--repeats", "1", "sac"], "names come before options"),
        (["envs", "Pendulum-v1", "--json", "none/file.json"], "cannot write"),
        (["envs", "--repeats", "0"], "--repeats must be at least 1"),
        (["flops"], "invalid choice"),
    ],
)
def test_bad_requests_are_one_line(words, said, capsys):
    assert main(["bench", *words]) == (1 if "--json" in words else 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
