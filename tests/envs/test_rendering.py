import os

import numpy as np
import pytest
from fake_env import FakeEnv

from fewstep import envs
from fewstep.envs import rendering
from fewstep.errors import FewstepError, UsageError


@pytest.fixture
def headless(monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")  # so that the variable is restored afterwards
    monkeypatch.setattr(rendering.sys, "platform", "linux")


def loads(*present):
    def load(library):
        if library not in present:
            raise OSError(library)

    return load


@pytest.mark.parametrize(
    ("libraries", "expected"),
    [(("libEGL.so.1", "libOSMesa.so.8"), "egl"), (("libOSMesa.so.8",), "osmesa"), ((), "")],
)
def test_the_backend_follows_the_libraries(headless, monkeypatch, libraries, expected):
    monkeypatch.setattr(rendering.ctypes, "CDLL", loads(*libraries))
    rendering.choose_backend("rgb_array")
    assert os.environ["MUJOCO_GL"] == expected


@pytest.mark.parametrize(
    ("name", "value"), [("MUJOCO_GL", "glfw"), ("DISPLAY", ":0"), ("WAYLAND_DISPLAY", "w")]
)
def test_what_the_user_chose_is_kept(headless, monkeypatch, name, value):
    monkeypatch.setattr(rendering.ctypes, "CDLL", loads("libEGL.so.1"))
    monkeypatch.setenv(name, value)
    rendering.choose_backend("rgb_array")
    assert os.environ["MUJOCO_GL"] == (value if name == "MUJOCO_GL" else "")


def test_without_a_render_mode_nothing_is_touched(headless):
    envs.make("Pendulum-v1").close()
    assert os.environ["MUJOCO_GL"] == ""


def test_multigoal_draws_itself():
    vector = envs.make("toy/multigoal", 2, render_mode="rgb_array")
    vector.reset([0, 1])
    before = vector.render(1)
    assert (before.shape, before.dtype) == ((240, 240, 3), np.uint8)
    vector.step(np.array([[0, 0], [1, 1]], np.float32))
    after = vector.render(1)
    blue = np.argwhere((after == (40, 80, 160)).all(-1)).mean(0)  # row, column
    assert blue[0] < 119 < blue[1]  # moved up and to the right
    assert not np.array_equal(before, after)


def test_an_environment_without_pictures_says_what_it_offers():
    with pytest.raises(
        UsageError, match="toy/bandit was not built with render_mode='rgb_array'; it offers: none"
    ):
        envs.make("toy/bandit", render_mode="rgb_array")
    with pytest.raises(UsageError, match="made without a render_mode"):
        envs.make("toy/multigoal").render(0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("an OpenGL platform library has not been loaded"),
            "cannot draw .*install libegl1 and libgl1",
        ),
        (
            AttributeError("'NoneType' object has no attribute 'glGetError'"),
            "libosmesa6 and set MUJOCO_GL=osmesa",
        ),
        (ValueError("no such\ncamera"), "cannot draw Drawing: ValueError: no such$"),
    ],
)
def test_drawing_errors_are_one_line(error, message):
    class Drawing(FakeEnv):
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
        render_mode = "rgb_array"

        def render(self):
            raise error

    with pytest.raises(FewstepError, match=message) as caught:
        envs.make(Drawing, render_mode="rgb_array").render(0)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_missing_library_is_explained_when_the_simulator_is_imported():
    """MuJoCo loads what MUJOCO_GL names at import, so the fault shows up in building, not in drawing."""
    error = AttributeError("'NoneType' object has no attribute 'glGetError'")

    def build():
        raise error

    with pytest.raises(UsageError, match=r"could not build .*glGetError.*; without a screen install libegl1"):
        envs.make(build)
    assert rendering.explain(ValueError("neglected eagles")) == "ValueError: neglected eagles"
