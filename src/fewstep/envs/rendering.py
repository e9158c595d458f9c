"""Pictures of environments on machines without a screen."""

import ctypes
import os
import re
import sys
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from fewstep import foreign
from fewstep.errors import FewstepError, UsageError
from fewstep.foreign import brief

_HEADLESS = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}


def choose_backend(render_mode: str | None) -> None:
    """Set MUJOCO_GL for drawing without a screen, if a picture is asked for and nobody has chosen already.

    EGL is preferred (it uses a GPU where there is one), then OSMesa. Where neither library exists the
    variable stays unset, and ``render`` tells the user what to install.
    """
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if render_mode is None or os.environ.get("MUJOCO_GL") or screen or sys.platform != "linux":
        return
    for backend, library in _HEADLESS.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        os.environ["MUJOCO_GL"] = backend
        return


def choose_backend_at_import() -> None:
    """``choose_backend`` for packages that choose at their import, before a picture is asked for.

    Where nothing can draw without a screen they are told so, instead of looking for one and warning.
    """
    choose_backend("rgb_array")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not screen:
        os.environ.setdefault("MUJOCO_GL", "disable")


def render(env: gymnasium.Env[Any, Any], env_id: str) -> NDArray[np.uint8]:
    """``[height, width, 3]`` uint8. Raises a one-line error that says what is missing."""

    def draw() -> Any:
        if env.render_mode is None:
            raise UsageError(f"{env_id} was made without a render_mode; make it with render_mode='rgb_array'")
        return env.render()

    picture = foreign.call(lambda error: FewstepError(f"cannot draw {env_id}: {explain(error)}"), draw)
    if not (isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3):
        raise FewstepError(
            f"{env_id} did not draw a [height, width, 3] picture (render_mode {env.render_mode!r})"
        )
    return picture.astype(np.uint8)  # astype copies: the environment may draw into the same array again


def explain(error: BaseException) -> str:
    """``error`` on one line; where OpenGL is what failed, also what to install."""
    text = brief(error)
    if not re.search(r"\b(OpenGL|EGL|OSMesa|GLFW|gl\w*Error|DISPLAY)\b", text, re.IGNORECASE):
        return text
    chosen = os.environ.get("MUJOCO_GL") or "unset"
    return (
        f"{text} (MUJOCO_GL is {chosen}); without a screen install libegl1 and libgl1 and set MUJOCO_GL=egl, "
        "or install libosmesa6 and set MUJOCO_GL=osmesa"
    )
