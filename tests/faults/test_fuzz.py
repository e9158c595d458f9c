"""Files that others may have written: whatever is in them, one line, no hang, nothing outside the run."""

import hashlib
import json
import os
import shutil
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewstep.cli import main
from fewstep.config import known_settings, parse_toml, resolve
from fewstep.errors import FewstepError
from fewstep.runs import checkpoint
from fewstep.training import saved_policy
from tests.e2e.helpers import one_line, train
from tests.e2e.tiny_algorithm import TinyConfig

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "run"
    assert train(path, steps=60) == 0
    return path


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


@QUICK
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_config_files(content):
    with suppress(FewstepError, UnicodeDecodeError):
        parse_toml(content.decode("utf-8"), "file")


@QUICK
@given(
    st.dictionaries(
        st.sampled_from([*known_settings(TinyConfig), "x"]),
        JSON,
        max_size=3,
    )
)
def test_settings_of_any_value(overrides):
    with suppress(FewstepError):
        assert resolve("tiny", TinyConfig, "toy/bandit", overrides=overrides).training.steps >= 1


def tampered(folder, name, change):
    """Change one JSON file of a checkpoint and make the manifest agree with it."""
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(value)))
    sums = json.loads((folder / "manifest.json").read_text())
    sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(sums))


@pytest.mark.parametrize("value", [None, [1], "many"])
@pytest.mark.parametrize("name", ["updates", "updates_in_interval"])
def test_counters_that_are_no_numbers_are_refused(run, tmp_path, capsys, name, value):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    tampered(copy / "checkpoints" / "000000060", "meta.json", lambda meta: meta | {name: value})
    assert main(["resume", str(copy), "--quiet"]) == 1
    assert "checkpoint 60 does not make sense" in capsys.readouterr().err


@QUICK
@given(st.data())
def test_a_forged_checkpoint_is_one_line(run, tmp_path_factory, capsys, data):
    """Counters of any value under a valid manifest: refused in one line, or harmless."""
    copy = tmp_path_factory.mktemp("forged") / "run"
    shutil.copytree(run, copy)
    folder = copy / "checkpoints" / "000000060"
    names = sorted(json.loads((folder / "meta.json").read_text()))
    name, value = data.draw(st.sampled_from(names)), data.draw(JSON)
    tampered(folder, "meta.json", lambda meta: meta | {name: value})
    capsys.readouterr()
    status = main(["resume", str(copy), "--quiet"])
    shutil.rmtree(copy)
    assert status in (0, 1, 2), (name, value)
    if status:
        one_line(capsys.readouterr().err)


@QUICK
@given(content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("name", ["manifest.json", "meta.json", "state.safetensors"])
def test_any_bytes_in_a_checkpoint(run, tmp_path_factory, name, content):
    copy = tmp_path_factory.mktemp("bytes") / "one"
    shutil.copytree(run / "checkpoints" / "000000060", copy)
    (copy / name).write_bytes(content)
    with pytest.raises(FewstepError) as error:
        checkpoint.load(copy)
    shutil.rmtree(copy)
    assert "\n" not in str(error.value)


@QUICK
@given(content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("name", [saved_policy.DESCRIPTION, saved_policy.WEIGHTS])
def test_any_bytes_in_a_policy(run, tmp_path_factory, name, content):
    copy = tmp_path_factory.mktemp("policy") / "one"
    shutil.copytree(run / "policy", copy)
    (copy / name).write_bytes(content)
    with pytest.raises(FewstepError):
        saved_policy.load(copy)
    shutil.rmtree(copy)


@QUICK
@given(st.data())
def test_a_description_with_any_value(run, tmp_path_factory, data):
    copy = tmp_path_factory.mktemp("description") / "one"
    shutil.copytree(run / "policy", copy)
    description = json.loads((copy / saved_policy.DESCRIPTION).read_text())
    description[data.draw(st.sampled_from(sorted(description)))] = data.draw(JSON)
    (copy / saved_policy.DESCRIPTION).write_text(json.dumps(description))
    with suppress(FewstepError):
        saved_policy.load(copy)
    shutil.rmtree(copy)


def test_sizes_that_are_only_claimed(run, tmp_path):
    """A header that promises terabytes, a description of 100 MB, brackets nested a million deep."""
    copy = tmp_path / "policy"
    shutil.copytree(run / "policy", copy)
    weights = (copy / saved_policy.WEIGHTS).read_bytes()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    for content in (struct.pack("<Q", len(header)) + header, struct.pack("<Q", 2**60) + header):
        (copy / saved_policy.WEIGHTS).write_bytes(content)
        with pytest.raises(FewstepError, match="is damaged"):
            saved_policy.load(copy)
    (copy / saved_policy.WEIGHTS).write_bytes(weights)
    for content in (b" " * 10**8, b"[" * 60_000):
        (copy / saved_policy.DESCRIPTION).write_bytes(content)
        with pytest.raises(FewstepError, match="is damaged"):
            saved_policy.load(copy)


def test_a_link_in_a_run_is_never_written_through(run, tmp_path, capsys):
    """A run directory from elsewhere may hold links to files of its reader."""
    outside = tmp_path / "outside"
    for name in (
        "metrics.jsonl",
        "evaluations.jsonl",
        "log.txt",
        "config.toml",
        ".lock",
        "policy",
        "checkpoints",
    ):
        copy = tmp_path / f"run-{name}"
        shutil.copytree(run, copy)
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        if (copy / name).is_dir():
            shutil.move(copy / name, outside / "target")
        else:
            (outside / "target").write_bytes((copy / name).read_bytes())
            (copy / name).unlink()
        os.symlink(outside / "target", copy / name)
        before = everything(outside)
        capsys.readouterr()
        assert main(["resume", str(copy), "--steps", "80", "--quiet"]) == 2
        one_line(capsys.readouterr().err, name, "symbolic link")
        assert everything(outside) == before


def test_a_half_written_link_is_replaced_and_not_followed(tmp_path):
    from fewstep.runs.files import write_text

    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, tmp_path / f".file.{os.getpid()}.tmp")
    write_text(tmp_path / "file", "text")
    assert victim.read_text() == "precious"
    assert (tmp_path / "file").read_text() == "text"


def test_a_read_only_run_is_one_line(run, tmp_path, capsys):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    copy.chmod(0o500)
    (copy / ".lock").chmod(0o400)
    assert main(["resume", str(copy), "--steps", "80", "--quiet"]) in (1, 2)
    one_line(capsys.readouterr().err, "cannot write")


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    """Names, order and retention of checkpoints come from steps; file times are never read."""
    import time

    now = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert train(tmp_path / "run", steps=600) == 0
    for path in (tmp_path / "run" / "checkpoints").rglob("*"):
        os.utime(path, (0, np.random.default_rng(0).integers(1, 10**9)))
    assert main(["resume", str(tmp_path / "run"), "--steps", "700", "--quiet"]) == 0
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["000000600", "000000700"]
