"""The StableHLO artefact: opened by jax alone in a fresh process, refused when damaged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fewstep import deploy
from fewstep.deploy.formats import checked_tensors as tensors
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats import stablehlo
from fewstep.deploy.formats.numpy.run import NumpyPolicy
from fewstep.errors import FewstepError
from tests.deploy.helpers import SPEC, TINY, exported, from_jax, observations


def test_the_example_of_the_page_in_a_fresh_process(tmp_path):
    artefact, obs = exported("smfp", TINY["smfp"]), observations(SPEC.obs_size)[50:]
    want, noise = from_jax("smfp", obs, sets=TINY["smfp"])
    path, _ = formats.write(artefact, "stablehlo", tmp_path / "cheetah")
    np.savez(tmp_path / "in.npz", obs=obs, noise=noise)
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (example,) = (part for part in page.split("```python\n")[1:] if "deserialize" in part)
    lines = example.split("```")[0].splitlines()
    lines[-2] = "obs, noise = np.load('in.npz').values()"  # in place of the page's zeros
    program = "\n".join([*lines, ""])
    program += "import sys; assert 'fewstep' not in sys.modules; np.save('out.npy', action)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.abs(np.load(tmp_path / "out.npy") - want).max() <= 1e-5
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(FewstepError, match="damaged"):
        deploy.load(path)


def test_one_observation_and_no_noise(tmp_path):
    artefact = exported("td3", TINY["td3"], mode="mode")
    policy = deploy.load(formats.write(artefact, "stablehlo", tmp_path / "policy")[0])
    obs = observations(SPEC.obs_size, 60)[59]
    assert policy.act(obs).shape == (SPEC.act_size,)
    np.testing.assert_allclose(policy.act(obs), NumpyPolicy(artefact).act(obs), atol=1e-5)


def test_a_sealed_file_of_other_tensors_is_refused(tmp_path):
    path = tmp_path / "policy.stablehlo"
    path.write_bytes(tensors.to_bytes({"format": stablehlo.FORMAT}, {"weight": np.zeros(2, np.float32)}))
    with pytest.raises(FewstepError, match="holds other tensors"):
        stablehlo.StableHloPolicy(path)
