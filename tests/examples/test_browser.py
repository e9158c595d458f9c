"""The browser example: its messages, and where emcc and Chromium are installed, its page in a browser."""

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fewstep.deploy.formats import registry as formats
from fewstep.types import EnvInfo, Spec
from tests.deploy.helpers import TINY, compiled_c, exported, needs_gcc

BUILD = Path(__file__).parents[2] / "examples" / "browser" / "build.py"
PENDULUM = EnvInfo("Pendulum-v1", ("cos", "sin", "speed"), (-2.0,), (2.0,), (1,), rate=20.0)
BROWSER = shutil.which("chromium")


def written(folder, noise="inside"):
    artefact = exported("smfp", TINY["smfp"], spec=Spec(3, 1), env=PENDULUM, noise=noise)
    return formats.write(artefact, "c", folder / "policy")[0]


def build(*words):
    return subprocess.run([sys.executable, BUILD, *map(str, words)], capture_output=True, text=True)


def test_what_the_page_cannot_run_is_said_in_one_line(tmp_path):
    done = build(tmp_path / "nothing.c", tmp_path / "page.html")
    assert done.returncode == 1
    assert "is missing; `fewstep export RUN --to c` writes both" in done.stderr
    done = build(written(tmp_path, "input"), tmp_path / "page.html")
    assert done.returncode == 1
    assert done.stderr == "this page takes a policy for Pendulum-v1, exported with --noise inside\n"
    assert not (tmp_path / "page.html").exists()


@needs_gcc
@pytest.mark.skipif(shutil.which("emcc") is None, reason="emcc is not installed")
@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_the_page_acts_as_the_c_file_does(tmp_path):
    source = written(tmp_path)
    done = build(source, tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    page = subprocess.run(
        [BROWSER, *words, f"file://{tmp_path}/page.html#test=3"], capture_output=True, text=True, timeout=120
    ).stdout
    told = json.loads(re.search(r'<pre id="result"[^>]*>(.*?)</pre>', page)[1])
    library = compiled_c(tmp_path, "policy")
    rng, obs, action = (ctypes.c_uint32 * 16)(), np.array([1, 0, 0], np.float32), np.zeros(1, np.float32)
    library.fewstep_seed(rng, ctypes.c_uint64(3))
    library.fewstep_act_seeded(rng, ctypes.c_void_p(obs.ctypes.data), ctypes.c_void_p(action.ctypes.data))
    np.testing.assert_allclose(told["first"], action, rtol=0, atol=2e-5)
    assert len(told["returns"]) == 10
    assert all(-2500.0 < value < 0.0 for value in told["returns"])
