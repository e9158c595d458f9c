"""Where a model may be saved, and what becomes of what is there."""

import ctypes
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import fewstep
from fewstep.cli import main
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint, files
from tests.e2e.helpers import TINY, one_line
from tests.e2e.test_api import FAST, Dicts


@pytest.fixture
def model():
    return fewstep.Model(TINY, "toy/multigoal", **FAST)


def steps_of(path):
    return fewstep.load(path).num_timesteps


def test_a_link_stays_and_its_target_is_replaced(model, tmp_path):
    model.save(tmp_path / "run7")
    (tmp_path / "latest").symlink_to("run7")
    model.learn(3).save(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert steps_of(tmp_path / "run7") == steps_of(tmp_path / "latest") == 3
    (tmp_path / "next").symlink_to("run8")  # to nothing yet
    model.save(tmp_path / "next")
    assert (tmp_path / "next").is_symlink()
    assert steps_of(tmp_path / "run8") == 3
    assert sorted(os.listdir(tmp_path)) == ["latest", "next", "run7", "run8"]


def test_the_file_behind_a_link_is_replaced_by_an_export(model, tmp_path):
    sac = fewstep.SAC("toy/multigoal", **FAST, **{"actor.hidden": [4], "critic.hidden": [4]})
    (tmp_path / "latest.safetensors").symlink_to("v3.safetensors")
    for _ in range(2):
        assert sac.export(tmp_path / "latest")[0] == tmp_path / "latest.safetensors"
    assert (tmp_path / "latest.safetensors").is_symlink()
    assert (tmp_path / "v3.safetensors").is_file()
    (tmp_path / "pipe.safetensors").mkdir()
    with pytest.raises(UsageError, match=r"is a folder|is not a file"):
        sac.export(tmp_path / "pipe.safetensors")


def test_a_name_as_long_as_the_system_allows(model, tmp_path):
    for _ in range(2):
        model.save(tmp_path / ("m" * 250))
    assert steps_of(tmp_path / ("m" * 250)) == 0
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "must be the name of a folder"),
        (None, "must be the name of a folder"),
        (3, "must be the name of a folder"),
        ("a\0b", "must be the name of a folder"),
        (".", "is not a saved model|current folder"),
        ("/", "is not a saved model|current folder"),
        ("file", "is not a saved model"),
        ("file/model", "cannot write to"),
        ("x" * 300, "cannot write to"),
        ("loop", "is not a saved model|cannot write to"),
        ("saved/inside", "lies inside the saved model"),
        ("saved/policy/deeper/still", "lies inside the saved model"),
        ("/proc/model", "cannot write to"),
        ("resumed", "is a run"),
    ],
)
def test_one_line_where_nothing_can_be_saved(path, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("loop").symlink_to("loop")
    model.save("saved")
    model.save("resumed")
    Path("resumed/metrics.jsonl").write_text("{}\n")
    before = sorted(os.listdir("."))
    with pytest.raises(UsageError, match=message) as caught:
        model.save(path)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(".")) == before
    assert Path("file").read_text() == "mine"
    assert steps_of("saved") == 0


def test_the_current_folder_is_not_taken_away(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model" / "policy")
    with pytest.raises(UsageError, match="current folder"):
        model.save("..")
    assert steps_of(tmp_path / "model") == 0


def test_missing_parents_are_made(model, tmp_path):
    model.save(tmp_path / "a" / "b" / "model.zip")
    assert steps_of(tmp_path / "a" / "b" / "model.zip") == 0


def test_what_others_have_put_there_stays(model, tmp_path):
    model.save(tmp_path / "model")
    (tmp_path / "model" / "report.html").write_text("page")
    (tmp_path / "model" / "export").mkdir()
    (tmp_path / "model" / "export" / "policy.onnx").write_text("policy")
    model.learn(2).save(tmp_path / "model")
    assert (tmp_path / "model" / "report.html").read_text() == "page"
    assert (tmp_path / "model" / "export" / "policy.onnx").read_text() == "policy"
    assert steps_of(tmp_path / "model") == 2
    assert os.listdir(tmp_path) == ["model"]


def test_a_full_disk_leaves_the_old_one(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model")

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(FewstepError, match=r"cannot save the model at .*model: No space left") as caught:
        model.learn(2).save(tmp_path / "model")
    assert not isinstance(caught.value, UsageError)
    assert os.listdir(tmp_path) == ["model"]
    assert steps_of(tmp_path / "model") == 0


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_waits_until_it_is_saved(model, tmp_path, monkeypatch):
    save = checkpoint.save

    def interrupted(*arguments, **named):
        signal.raise_signal(signal.SIGINT)
        return save(*arguments, **named)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "model", replay=True)
    assert os.listdir(tmp_path) == ["model"]
    assert steps_of(tmp_path / "model") == 0


def test_there_is_no_instant_without_a_model(model, tmp_path, monkeypatch):
    """The exchange of the two folders is one step of the system's; killed around it, one is there."""
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this system cannot exchange two names")
    model.save(tmp_path / "model")
    exchange, seen = files._exchange, []

    def watched(first, second):
        seen.append(steps_of(second))
        done = exchange(first, second)
        seen.append(steps_of(second))
        return done

    monkeypatch.setattr(files, "_exchange", watched)
    monkeypatch.setattr(Path, "rename", lambda *paths: pytest.fail("renamed in two steps"))
    model.learn(2).save(tmp_path / "model")
    assert seen == [0, 2]


def test_without_an_exchange_it_is_renamed(model, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    model.save(tmp_path / "model")
    model.learn(2).save(tmp_path / "model")
    assert steps_of(tmp_path / "model") == 2
    assert os.listdir(tmp_path) == ["model"]


def test_a_model_of_a_function_is_saved_without_it(tmp_path, capsys):
    one = fewstep.Model(TINY, lambda: Dicts(), **FAST, **{"training.max_episode_steps": 5}).learn(30)
    observation = {"position": np.array([0.5, -0.5], np.float32), "mode": 2}
    expected, _ = one.predict(observation, deterministic=True)
    path = tmp_path / "model"
    one.save(path)
    with pytest.raises(UsageError, match=r"fewstep\.load\(PATH, env=FUNCTION\)") as caught:
        fewstep.load(path)
    assert "\n" not in str(caught.value)
    for words in (["evaluate", path, "--episodes", "1"], ["resume", path]):
        assert main([*map(str, words)]) == 2
        one_line(capsys.readouterr().err, "Python function", "fewstep.load(PATH, env=FUNCTION)")
    # What the policy has to know of its environment is saved with it, so it is exported without the function.
    assert main(["export", str(path), "--to", "numpy"]) == 0
    for again in (
        fewstep.load(path, env=Dicts),
        fewstep.load(path, env="tests.e2e.test_api:FewstepTestDicts-v0"),
    ):
        assert np.array_equal(again.predict(observation, deterministic=True)[0], expected)
        assert again.learn(5).num_timesteps == 35
        again.save(tmp_path / "again")
    with pytest.raises(FewstepError, match="observations of 5 and actions of 2 numbers, now"):
        fewstep.load(path, env="toy/bandit")


def test_a_policy_from_a_function_is_exported_and_evaluated(tmp_path):
    sizes = {"actor.hidden": [4], "critic.hidden": [4], "training.max_episode_steps": 5}
    one = fewstep.SAC(Dicts, **FAST, **sizes)
    file, _ = one.export(tmp_path / "policy", actions="mode")
    assert fewstep.deploy.load(file).description.env == "function/Dicts"
    assert one.evaluate(2)[1].tolist() == [5, 5]
