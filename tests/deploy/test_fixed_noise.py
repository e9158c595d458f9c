"""Exported with fixed noise, a policy is ``predict(deterministic=True)``: the observation alone decides."""

import numpy as np
import pytest

import fewstep
from fewstep import deploy
from fewstep.cli import main
from fewstep.errors import UsageError
from tests.deploy.helpers import TINY
from tests.e2e.helpers import one_line
from tests.few import slow

OBS = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
FORMATS = {"numpy": None, "onnx": "onnxruntime", "stablehlo": "flatbuffers"}


@pytest.fixture(scope="module", params=["smfp", "sac", *slow("mfpo")])
def model(request):
    sizes = dict(text.split("=") for text in TINY[request.param])
    values = {
        name: [int(n) for n in text.strip("[]").split(",")] if "[" in text else int(text)
        for name, text in sizes.items()
    }
    return fewstep.Model(request.param, "toy/multigoal", seed=3, **values, **{"replay.capacity": 2000})


def close(found, wanted):
    """Up to float32; of two candidates that the critics cannot tell apart another may be taken, rarely."""
    assert np.mean(np.abs(found - wanted).max(axis=1) < 1e-4) >= 0.9


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_acts_as_predict_does(to, model, tmp_path):
    if FORMATS[to]:
        pytest.importorskip(FORMATS[to])
    file, _ = model.export(tmp_path / "policy", to, actions="native", noise="fixed")
    policy = deploy.load(file)
    assert policy.noise_size == 0
    assert policy.description.noise == "fixed"
    batch = policy.act(OBS)
    close(batch, model.predict(OBS, deterministic=True)[0])
    alone = np.stack([policy.act(row) for row in OBS])
    assert np.array_equal(batch, alone)  # to the bit, in a batch as by itself
    assert np.array_equal(policy.act(OBS[::-1][:7]), alone[::-1][:7])
    assert policy.act(OBS[:0]).shape == (0, 2)
    with pytest.raises(UsageError, match="takes no noise"):
        policy.act(OBS[0], noise=np.zeros(2))


def test_c_acts_as_predict_does(model, tmp_path):
    from tests.deploy import helpers

    if helpers.shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    import ctypes
    import subprocess

    source, *_ = model.export(tmp_path / "policy", "c", actions="native", noise="fixed")
    library = tmp_path / "policy.so"
    subprocess.run(["gcc", *helpers.STRICT, "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
    act = ctypes.CDLL(str(library)).fewstep_act
    found = np.zeros((len(OBS), 2), np.float32)
    for row, action in zip(OBS, found, strict=True):
        act(row.ctypes.data_as(ctypes.c_void_p), None, action.ctypes.data_as(ctypes.c_void_p))
    close(found, model.predict(OBS, deterministic=True)[0])


def test_onnx_by_itself_takes_a_batch(model, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    file, _ = model.export(tmp_path / "policy", "onnx", actions="native", noise="fixed")
    session = runtime.InferenceSession(str(file))
    assert [given.name for given in session.get_inputs()] == ["obs"]
    close(session.run(None, {"obs": OBS})[0], model.predict(OBS, deterministic=True)[0])


def test_the_command_line_writes_the_same(model, tmp_path, capsys):
    model.save(tmp_path / "model")
    file, _ = model.export(tmp_path / "python", actions="native", noise="fixed")
    words = ["export", str(tmp_path / "model"), "--to", "numpy", "--actions", "native", "--noise"]
    assert main([*words, "fixed", "--out", str(tmp_path / "command")]) == 0
    assert (tmp_path / "command.safetensors").read_bytes() == file.read_bytes()
    capsys.readouterr()
    assert main([*words, "frozen"]) == 2
    one_line(capsys.readouterr().err, "--noise")
