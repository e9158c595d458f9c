"""``actor.average``: the loop collects with the last policy and evaluates, saves and resumes the average."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from fewstep.cli import main
from tests.e2e.helpers import rows, train

SMALL = ("actor.hidden=16,16", "critic.hidden=16,16", "actor.delay=2")
LOOPS = {
    "one seed": ("", []),
    "several seeds": ("seed-1/", ["--seeds", "0,1"]),
    "device": ("", ["--set", "training.device_env=toy/multigoal"]),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_training_is_the_same_and_the_evaluated_policy_another(loop, tmp_path):
    inside, words = LOOPS[loop]
    runs = {}
    for over in (0, 20):
        runs[over] = tmp_path / str(over) / inside
        sets = (*SMALL, f"actor.average={over}")
        assert train(tmp_path / str(over), *words, algo="sac", sets=sets, steps=300) == 0
    plain, averaged = (rows(runs[over] / "metrics.jsonl") for over in (0, 20))
    assert len(plain) == len(averaged) == 3
    for row, other in zip(plain, averaged, strict=True):  # another program may round otherwise
        assert row == pytest.approx(other, rel=1e-3, abs=1e-5)
    last, average = (load_file(runs[over] / "policy" / "policy.safetensors") for over in (0, 20))
    assert last.keys() == average.keys()
    apart = {name for name in last if not np.allclose(last[name], average[name], rtol=1e-3, atol=1e-5)}
    assert apart == {name for name in last if name.startswith("actor/")}
    returns = [[row["returns"] for row in rows(runs[over] / "evaluations.jsonl")] for over in (0, 20)]
    assert returns[0] != returns[1]


def test_a_stopped_run_resumes_with_its_average(tmp_path):
    """Bit for bit: the weights of the average and its evaluations."""
    sets = (*SMALL, "actor.average=20")
    assert train(tmp_path / "whole", algo="sac", sets=sets, steps=400) == 0
    assert train(tmp_path / "half", algo="sac", sets=sets, steps=200) == 0
    assert main(["resume", str(tmp_path / "half"), "--steps", "400", "--quiet"]) == 0
    whole, half = (load_file(tmp_path / x / "policy" / "policy.safetensors") for x in ("whole", "half"))
    assert all(np.array_equal(whole[name], half[name]) for name in whole)
    assert rows(tmp_path / "whole" / "evaluations.jsonl") == rows(tmp_path / "half" / "evaluations.jsonl")
