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


def few(names, cases, keep=2, **more):
    """``pytest.mark.parametrize`` of which `make test` runs the first ``keep`` cases."""
    cases = list(cases)
    return pytest.mark.parametrize(names, [*cases[:keep], *slow(*cases[keep:])], **more)
