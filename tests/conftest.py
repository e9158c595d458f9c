"""Settings of the whole suite.

The tests compile many small programs and run each a few times: LLVM's optimiser would take most of the time,
and XLA's newer way to write a fusion takes a fifth longer than the older one. Compiled programs are shared
between tests and workers through jax's own cache, in a folder of this run. They also stay in memory, until a
worker has more of them mapped than the kernel allows a process; so they are dropped when there are many.
"""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="fewstep-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

GROWTH = 3 << 29
"""Bytes of resident memory between two clearings."""
limit = GROWTH


def pytest_addoption(parser):
    parser.addoption(
        "--rehearse", action="store_true", help="run tests marked gpu on the device that there is"
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def _drop_compiled_programs():
    global limit
    yield
    if _resident() > limit:
        import jax

        jax.clear_caches()
        limit = _resident() + GROWTH


@pytest.fixture
def ctrl_c():
    """SIGINT raises KeyboardInterrupt, as in a terminal: a background job inherits it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
