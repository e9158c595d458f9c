"""Where the tests marked ``gpu`` run.

They run on a GPU, or with ``pytest tests/gpu --rehearse`` on the first device that jax has, whatever it is.
"""

import os

import pytest

# The runs of these tests are processes of their own and need some of the memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@pytest.fixture(scope="session")
def device(request):
    """The device that the test is about."""
    import jax

    first = jax.devices()[0]
    if first.platform != "gpu" and not request.config.getoption("--rehearse"):
        pytest.skip(f"no GPU: jax runs on {first.platform}; --rehearse runs it there")
    return first


@pytest.fixture
def exact(device):
    """float32 products in float32: by default a GPU rounds their inputs to 10 bits (TF32)."""
    import jax

    with jax.default_matmul_precision("highest"):
        yield
