"""The same bits whatever the process has set jax to, and a device that is not there named."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fewstep
from fewstep.algos import numerics
from fewstep.cli import main
from fewstep.errors import FewstepError
from fewstep.runs import checkpoint
from fewstep.training import state_io
from tests.algos.common import representatives
from tests.e2e.helpers import FAST, TINY, one_line, train
from tests.faults import habits
from tests.faults.test_resume_everything import described, go, trainer

SWITCHED = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_prng_impl": "rbg",
}
HABIT = "tests.faults.habits:Habit-v0"


@pytest.fixture
def switch():
    """A function that sets what a process can set; everything is put back, also at the end of a ``with``."""
    before = {name: getattr(jax.config, name) for name in SWITCHED}

    def put_back():
        for name, value in before.items():
            jax.config.update(name, value)

    def switch(*_):
        for name, value in SWITCHED.items():
            jax.config.update(name, value)
        stack = contextlib.ExitStack()
        stack.callback(put_back)
        return stack

    yield switch
    put_back()
    habits.PLAN.clear()


@pytest.mark.parametrize("name", representatives())
def test_every_algorithm_gives_the_same_bits(name, switch):
    def trained():
        one = trainer(name)
        go(one, 45)
        one.close()
        return one.snapshot()[0]["state"], described(one)

    with switch():
        assert jnp.zeros(()).dtype == np.float64
        state, found = trained()  # this one compiles
    assert {array.dtype for array in state.values()} <= {np.dtype(k) for k in ("f4", "i4", "u4", "?")}
    assert trained()[1] == found


def test_runs_and_models_of_one_process_open_in_the_other(switch, tmp_path):
    """The environment finds its own setting at every step."""
    assert train(tmp_path / "plain", env=HABIT, steps=120) == 0
    seen = set()
    habits.PLAN["build"] = switch
    habits.PLAN["step"] = lambda env: seen.add(jnp.zeros(()).dtype)
    assert train(tmp_path / "double", env=HABIT, steps=120) == 0
    assert seen == {np.dtype(np.float64)}
    saved = [checkpoint.load_newest(tmp_path / n / "checkpoints", pytest.fail) for n in ("plain", "double")]
    plain, double = (one.groups["state"] for one in saved)
    for name, array in plain.items():
        assert array.dtype == double[name].dtype
        assert np.array_equal(array, double[name]), name
    assert main(["evaluate", str(tmp_path / "plain"), "--episodes", "1"]) == 0
    assert main(["resume", str(tmp_path / "plain"), "--steps", "140", "--quiet"]) == 0
    seeds = ["--seeds", "0,1", "--steps", "80", "--out", str(tmp_path / "both"), "--quiet"]
    assert main(["train", TINY, HABIT, *seeds, "--set", *FAST]) == 0
    fewstep.load(tmp_path / "plain").predict(np.ones(3), deterministic=True)


@pytest.fixture
def nothing_there(monkeypatch):
    """As jax is on a machine without the platform that ``JAX_PLATFORMS`` names: an error without a word."""

    def devices():
        raise AssertionError

    monkeypatch.setattr(numerics, "_found", [])
    monkeypatch.setattr(jax, "devices", devices)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "cuda")
    yield "JAX_PLATFORMS=cuda asks for a platform that is not here; unset JAX_PLATFORMS"
    jax.config.update("jax_platforms", before)


def test_a_device_that_is_not_there(nothing_there, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["train", TINY, "toy/bandit"], ["train", "sac", "toy/bandit", "--seeds", "0,1"]):
        assert main(words) == 1
        one_line(capsys.readouterr().err, nothing_there)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FewstepError, match="asks for a platform that is not here"):
        fewstep.Model(TINY, "toy/bandit")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert main(["doctor"]) == 1
    assert any(
        line.startswith("FAIL") and nothing_there in line for line in capsys.readouterr().out.splitlines()
    )


def test_the_level_of_the_compiler_is_ours_unless_the_user_names_one(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert numerics.compiler_options() == {numerics.LEVEL: 2}
    monkeypatch.setenv("XLA_FLAGS", f"--{numerics.LEVEL}=3")
    assert numerics.compiler_options() is None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_what_is_not_finite_is_found_in_every_type(dtype):
    """numpy does not count bfloat16 among the floats."""
    arrays = {"fine": np.ones(3, np.float32), "odd": np.asarray(jnp.array([1, 2, 3]).astype(dtype))}
    assert state_io.first_non_finite(arrays) is None
    if dtype is not jnp.int32:
        arrays["odd"] = np.asarray(jnp.array([1.0, jnp.nan, 3.0], dtype))
        assert state_io.first_non_finite(arrays) == "odd"
