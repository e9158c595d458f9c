import datetime
import json
import shutil
import struct
import sys
import types

import pytest
from tensorboardX.proto.event_pb2 import Event

from fewstep.cli.main import main
from fewstep.runs.layout import RunDir

CREATED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def run(tmp_path):
    made = RunDir.create(tmp_path / "E" / "a" / "seed-3", 'env = "E"\nalgo = "a"\nseed = 3\n')
    made.provenance.write_text(json.dumps({"created_at": CREATED}))
    rows = [{"env_steps": 10 * k, "critic/loss": 0.5 * k, "wall_seconds": 7.0 * k} for k in (1, 2)]
    made.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def events(folder):
    """What a TFRecord file holds: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def test_tensorboard_holds_every_number_at_its_step_and_time(run, capsys):
    for _ in range(2):  # a second call replaces the file
        assert main(["sync", str(run.path), "--to", "tensorboard"]) == 0
    assert "2 points of" in capsys.readouterr().out
    start = datetime.datetime.fromisoformat(CREATED).timestamp()
    scalars = [
        (event.step, event.wall_time - start, value.tag, value.simple_value)
        for event in events(run.path / "tensorboard")
        for value in event.summary.value
        if value.HasField("simple_value")
    ]
    assert (10, 7.0, "critic/loss", 0.5) in scalars
    assert (20, 14.0, "critic/loss", 1.0) in scalars
    assert len(scalars) == 4
    texts = [value for event in events(run.path / "tensorboard") for value in event.summary.value]
    assert any(b'algo = "a"' in value.tensor.string_val[0] for value in texts if value.tensor.string_val)


def test_out_keeps_runs_apart(run, tmp_path):
    assert main(["sync", str(run.path), "--to", "tensorboard", "--out", str(tmp_path / "tb")]) == 0
    assert len(events(tmp_path / "tb" / "E" / "a" / "seed-3")) > 2


class FakeRun:
    """Stands for W&B's run, which needs an account: keeps what it is given, as the service would."""

    store: dict[str, dict[int, dict[str, float]]] = {}  # noqa: RUF012

    def __init__(self, **settings):
        self.settings = settings
        self.resumed = settings["id"] in self.store
        self.rows = self.store.setdefault(settings["id"], {})
        self.starting_step = max(self.rows, default=-1) + 1
        self.url, self.dir = None, "folder"

    def log(self, values, step):
        assert step >= max(self.rows, default=0), "W&B drops what comes late"
        self.rows[step] = values

    def finish(self):
        pass


def test_wandb_is_filled_once_and_continued(run, monkeypatch, capsys):
    fake = types.ModuleType("wandb")
    made = []
    fake.init = lambda **settings: made.append(FakeRun(**settings)) or made[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert main(["sync", str(run.path), "--to", "wandb", "--project", "p"]) == 0
    with run.metrics.open("a") as file:
        file.write(json.dumps({"env_steps": 30, "critic/loss": 9.0}) + "\n")
    assert main(["sync", str(run.path), "--to", "wandb", "--project", "p"]) == 0
    assert [row for row in capsys.readouterr().out.splitlines() if "points" in row][1].startswith("1 points")
    assert sorted(made[0].rows) == [10, 20, 30]
    assert made[0].rows[30] == {"critic/loss": 9.0}
    assert made[1].settings["id"] == made[0].settings["id"]
    assert made[0].settings["config"] == {"env": "E", "algo": "a", "seed": 3}
    assert (made[0].settings["project"], made[0].settings["group"]) == ("p", "E/a")


def test_trackio_is_filled_once_and_continued(run, monkeypatch, capsys):
    fake, made, sent = types.ModuleType("trackio"), [], []

    class Held:
        def log(self, values, step):
            sent.append((step, values))

        def finish(self):
            pass

    fake.init = lambda **settings: made.append(settings) or Held()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    assert main(["sync", str(run.path), "--to", "trackio", "--project", "p"]) == 0
    with run.metrics.open("a") as file:
        file.write(json.dumps({"env_steps": 30, "critic/loss": 9.0}) + "\n")
    assert main(["sync", str(run.path), "--to", "trackio", "--project", "p"]) == 0
    assert [step for step, _ in sent] == [10, 20, 30]
    assert sent[-1][1] == {"critic/loss": 9.0}
    assert made[0]["name"] == made[1]["name"]
    assert made[0]["name"].startswith("E/a/seed-3 ")
    assert (made[0]["project"], made[0]["group"], made[0]["resume"]) == ("p", "E/a", "allow")
    assert main(["sync", str(run.path), "--to", "trackio", "--project", "another"]) == 0
    assert [step for step, _ in sent] == [10, 20, 30, 10, 20, 30]
    assert "3 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "tensorbord"], "did you mean 'tensorboard'?"),
        (["--to", "wandb"], "wandb needs wandb: pip install 'fewstep[wandb]'"),
        (["--to", "tensorboard", "--follow"], "--follow takes one run"),
    ],
)
def test_bad_requests_are_one_line(run, words, said, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    runs = [str(run.path)] * (2 if "--follow" in words else 1)
    assert main(["sync", *runs, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_config_is_one_line(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    run.config.write_text('env = "E"\n')
    assert main(["sync", str(run.path), "--to", "wandb"]) == 1
    assert "is damaged: it has no algo" in capsys.readouterr().err


def test_runs_that_are_called_alike_stay_apart(run, tmp_path, capsys):
    """The same task, algorithm and seed of two experiments."""
    other = tmp_path / "second" / "E" / "a" / "seed-3"
    shutil.copytree(run.path, other)
    assert (
        main(["sync", str(run.path), str(other), "--to", "tensorboard", "--out", str(tmp_path / "out")]) == 0
    )
    assert len(list((tmp_path / "out").rglob("events.out.tfevents.*"))) == 2
    assert main(["sync", str(run.path), str(run.path), "--to", "tensorboard", "--out", str(tmp_path)]) == 2
    assert "a run is given twice" in capsys.readouterr().err


def test_a_service_that_refuses_is_one_line(run, monkeypatch, capsys):
    def refuse(**settings):
        raise RuntimeError("api_key not configured\nsecond line")

    for name in ("wandb", "trackio"):
        fake = types.ModuleType(name)
        fake.init = refuse  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, fake)
        assert main(["sync", str(run.path), "--to", name]) == 1
        error = capsys.readouterr().err
        assert f"{name} cannot be opened: RuntimeError: api_key not configured" in error
        assert error.count("\n") == 1
