"""What tests of reports share."""

import pytest
from markupsafe import Markup

from fewstep.analysis.figures import style


@pytest.fixture
def undrawn(monkeypatch):
    """Every figure is an empty drawing: what a test of words and tables need not wait for."""
    monkeypatch.setattr(style, "to_svg", lambda figure, name: Markup("<svg></svg>"))
