"""The ONNX artefact as a file: what is inside, what is refused."""

import json

import numpy as np
import pytest

from fewstep import deploy
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.onnx import write as onnx_model
from fewstep.errors import FewstepError, UsageError
from tests.deploy.helpers import SPEC, TINY, exported

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    artefact = exported("mfpo", TINY["mfpo"], mode="best-of-3")
    return formats.write(artefact, "onnx", tmp_path_factory.mktemp("onnx") / "policy")[0]


def test_onnxruntime_alone_opens_it_and_finds_what_it_is(saved):
    session = onnxruntime.InferenceSession(saved, providers=["CPUExecutionProvider"])
    assert {port.name: port.shape for port in session.get_inputs()} == {
        "obs": ["batch", SPEC.obs_size],
        "noise": ["batch", 3 * SPEC.act_size],
    }
    meta = json.loads(session.get_modelmeta().custom_metadata_map["fewstep"])
    assert meta["format"] == onnx_model.FORMAT
    assert meta["description"]["obs_names"][4] == "observation[4]"
    assert meta["description"]["weights"] == exported("mfpo", TINY["mfpo"]).description.weights
    feed = {"obs": np.ones((2, 5), np.float32), "noise": np.ones((2, 9), np.float32)}
    assert session.run(["action"], feed)[0].shape == (2, SPEC.act_size)
    with pytest.raises(Exception, match="index: 1 Got: 4 Expected: 5"):
        session.run(None, {**feed, "obs": np.ones((2, 4), np.float32)})


def test_a_flipped_byte_is_refused(saved, tmp_path):
    good, flipped = saved.read_bytes(), tmp_path / "flipped.onnx"
    for i in range(0, len(good), 7):
        flipped.write_bytes(good[:i] + bytes([good[i] ^ 0x10]) + good[i + 1 :])
        with pytest.raises(FewstepError, match="damaged"):
            deploy.load(flipped)


def test_what_does_not_fit_is_refused(saved):
    policy = deploy.load(saved)
    with pytest.raises(UsageError, match="observation has shape"):
        policy.act(np.zeros(4), np.zeros(9))
    with pytest.raises(UsageError, match="noise has shape"):
        policy.act(np.zeros(5), np.zeros(3))
    with pytest.raises(UsageError, match="takes its noise as an input"):
        policy.act(np.zeros(5))
    with pytest.raises(UsageError, match="takes 5 numbers, not 1"):
        deploy.load(saved, obs_names=["x"])


def test_a_foreign_model_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(FewstepError, match="not an exported policy"):
        deploy.load(tmp_path / "x.onnx")
