"""The contract beside an exported policy, and that what does not fit it is refused."""

import hashlib
import json

import numpy as np
import pytest

from fewstep import deploy
from fewstep.deploy.formats import contract
from fewstep.deploy.formats import registry as formats
from fewstep.errors import FewstepError
from tests.deploy.helpers import SPEC, TINY, exported, surroundings


@pytest.fixture
def written(tmp_path):
    env = surroundings(low=-2.0, high=0.5)
    return formats.write(exported("sac", TINY["sac"], env=env), "numpy", tmp_path / "policy")


@pytest.mark.parametrize("to", ["numpy", "c"])
def test_it_says_what_the_policy_takes_and_gives(to, tmp_path):
    *files, path = formats.write(exported("sac", TINY["sac"]), to, tmp_path / "policy")
    assert path.name == f"{files[0].name}.contract.json"
    content = json.loads(path.read_text())
    assert content["files"] == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    assert [entry["name"] for entry in content["observation"]["entries"]] == [
        f"observation[{i}]" for i in range(SPEC.obs_size)
    ]
    assert content["action"]["entries"] == [{"index": i, "low": -1.0, "high": 1.0} for i in range(3)]
    assert (content["noise"]["size"], content["rate_hz"]) == (3, None)
    assert content["policy"]["weights_sha256"] == exported("sac", TINY["sac"]).description.weights


def test_a_policy_fits_its_own_contract_under_any_name(written, tmp_path):
    file, path = written
    about = deploy.load(file).description
    assert (about.low, about.high) == ((-2.0,) * 3, (0.5,) * 3)
    renamed = file.rename(tmp_path / "hand.safetensors")
    path.rename(contract.path_of(renamed))
    assert deploy.load(renamed).description == about
    contract.path_of(renamed).unlink()
    assert deploy.load(renamed).description == about


def test_another_policys_contract_is_refused(written, tmp_path):
    file, path = written
    other = exported("sac", TINY["sac"], mode="mode")
    formats.write(other, "numpy", tmp_path / "other")
    path.write_bytes((tmp_path / "other.safetensors.contract.json").read_bytes())
    with pytest.raises(FewstepError, match=r"is not the policy that policy.* is about"):
        deploy.load(file)


@pytest.mark.parametrize("key", ["observation", "action", "rate_hz"])
def test_a_contract_that_was_changed_is_refused(written, key):
    file, path = written
    content = json.loads(path.read_text())
    if key == "rate_hz":
        content[key] = 50.0
    else:
        content[key]["entries"].reverse()
        content[key]["entries"][0] |= {"low": -1.0} if key == "action" else {}
    path.write_text(json.dumps(content))
    with pytest.raises(FewstepError, match="says something else than the policy itself"):
        deploy.load(file)


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"contract": 1, "files": 7}', "[" * 100_000])
def test_a_damaged_contract_is_refused_in_one_line(written, text):
    file, path = written
    path.write_text(text)
    with pytest.raises(FewstepError, match=r"contract.json is damaged or not a contract:") as caught:
        deploy.load(file)
    assert "\n" not in str(caught.value)


def test_another_version_is_refused(written):
    file, path = written
    path.write_text(path.read_text().replace('"contract": 1', '"contract": 2'))
    with pytest.raises(FewstepError, match="has version 2; this fewstep reads 1"):
        deploy.load(file)


def test_bounds_and_rate_are_in_the_c_header(tmp_path):
    env = surroundings(low=-2.0, high=0.5)
    formats.write(exported("sac", TINY["sac"], env=env), "c", tmp_path / "policy")
    header = (tmp_path / "policy.h").read_text()
    low = header.split("ACT_LOW {")[1].split("}")[0]
    assert [float.fromhex(end.strip(" f")) for end in low.split(",")] == [-2.0] * 3
    assert "RATE_HZ" not in header  # the environment does not say
    assert np.isclose(float.fromhex(header.split("ACT_HIGH {")[1].split(",")[0].rstrip("f")), 0.5)
