"""``--seeds`` on several devices: spread over them, and the numbers are those of one device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fewstep.cli import main
from fewstep.training.several import placement
from tests.e2e.helpers import ROOT, TINY, process
from tests.e2e.test_seeds import FAST, state, train
from tests.few import slow

EIGHT = {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"}
TOLERANCE = 5e-5
"""Relative, after 20 updates. On host devices: 0 for the tiny algorithm, 4e-6 for SAC, 7e-6 for SMFP."""


@pytest.mark.parametrize(
    ("seeds", "visible", "used"),
    [(8, 8, 8), (16, 8, 8), (12, 8, 6), (4, 8, 4), (7, 4, 1), (6, 4, 3), (1, 8, 1), (5, 1, 1)],
)
def test_the_largest_divisor_that_there_are_devices_for(seeds, visible, used):
    assert placement.devices_for(seeds, visible) == used


@pytest.mark.parametrize("name", [TINY, *slow("sac", "smfp", "mfpo")])
def test_states_lie_on_the_devices_and_learn_what_they_learn_on_one(name):
    count = 4
    words = [sys.executable, "-m", "tests.e2e.on_devices", name, str(count)]
    done = subprocess.run(
        words, env=os.environ | EIGHT, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["visible"] == 8
    assert found["updates"] == 20 + 1
    # A seed on each device; the count of updates, which has no axis of seeds, on every one.
    assert found["states"] == [[count], [count, 1]]
    assert found["totals"] == found["keys"] == [[count, 1]]
    assert {devices for devices, *_ in found["parted"] + found["states_alone"]} == {1}
    assert found["after_a_drop"] == [[count - 1, 1]]
    assert found["difference"] <= TOLERANCE


def run(*words):
    child = process(*words, "--quiet", env=EIGHT)
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors


def test_a_run_begun_on_several_devices_goes_on_on_one_and_the_other_way_round(tmp_path):
    more = ["training.eval_every=0"]
    words = ["train", TINY, "toy/multigoal", "--seeds", "0..3", "--set", *FAST, *more]
    on_one, on_four, there, back = (tmp_path / name for name in ("one", "four", "there", "back"))
    assert train(on_one, "0..3", steps=200, sets=more) == 0
    run(*words, "--steps", "200", "--out", on_four)
    run(*words, "--steps", "117", "--out", there)
    assert train(back, "0..3", steps=117, sets=more) == 0
    seeds = [f"seed-{seed}" for seed in range(4)]
    assert main(["resume", *(str(there / seed) for seed in seeds), "--steps", "200", "--quiet"]) == 0
    run("resume", *(back / seed for seed in seeds), "--steps", "200")
    for seed in seeds:
        log = (on_four / seed / "log.txt").read_text()
        assert log.count("4 seeds on 4 of 8 devices, 1 on each") == 1
        assert "devices" not in (on_one / seed / "log.txt").read_text()
        one, *others = (state(folder / seed, 200).groups for folder in (on_one, on_four, there, back))
        for other in others:
            for group in ("replay", "state"):
                for name, array in one[group].items():
                    if not name.startswith("totals/"):  # of an interval that the cut has divided
                        np.testing.assert_allclose(array, other[group][name], 1e-6, 1e-7, err_msg=name)
