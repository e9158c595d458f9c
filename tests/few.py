"""What `make test` leaves to `make test-all`: further cases of a test that it runs on some."""

import pytest


def slow(*cases, ids=None):
    """These cases of a parametrised test, marked so that `make test-all` alone runs them."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=pytest.mark.slow,
            id=None if ids is None else ids(case),
        )
        for case in cases
    ]
