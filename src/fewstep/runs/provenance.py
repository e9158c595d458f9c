"""Where a run came from: versions, machine, code and command, so that its numbers can be placed later."""

import datetime
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("fewstep", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")
FROM_CHECKOUT = ("humanoid_bench",)
"""Packages on no index: what tells their versions apart is the commit of the checkout."""
_WRITTEN = {"mujoco": "MuJoCo", "humanoid_bench": "HumanoidBench"}


def collect(config_sha256: str, device: str, simulator: tuple[str, ...]) -> dict[str, Any]:
    """The content of ``provenance.json``.

    Args:
        config_sha256: hash of the resolved config.
        device: the accelerator in words, as the caller's framework names it.
        simulator: packages that the environment depends on, beside those of every run.
    """
    return {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(),
        "versions": {"python": platform.python_version(), **versions(PACKAGES + simulator)},
        "device": device,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "git": git_state(Path(__file__)),
        "config_sha256": config_sha256,
    }


def command() -> str:
    """The command line of this process; ``sys.argv`` may be the user's by now."""
    interpreter, *words = sys.orig_argv
    if words and not words[0].startswith("-"):  # a script, or the console script
        return shlex.join([Path(words[0]).name, *words[1:]])
    return shlex.join([Path(interpreter).name, *words])


def versions(packages: tuple[str, ...]) -> dict[str, str | None]:
    """Installed version of each package, None where it is not installed; of one that is used from a git
    checkout its commit, with ``+`` where files differ from it."""
    return {name: _commit(name) if name in FROM_CHECKOUT else _version(name) for name in packages}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    state = git_state(Path(spec.origin)) if spec is not None and spec.origin else None
    return None if state is None else state["commit"][:12] + ("+" if state["dirty"] else "")


def differences(recorded: Mapping[str, Any], now: Mapping[str, str | None]) -> str:
    """``mujoco 3.16.0 then, 3.17.0 now`` for each package whose version is another than the recorded one;
    empty if there is none."""
    changed = {
        name: (recorded[name], version)
        for name, version in now.items()
        if name in recorded and recorded[name] != version
    }
    return "; ".join(f"{name} {then} then, {version} now" for name, (then, version) in changed.items())


def simulator_words(found: Mapping[str, str | None]) -> str:
    """``MuJoCo 3.17.0, dm_control 1.0.50`` for versions of packages; empty if one is not known."""
    if not all(found.values()):
        return ""
    return ", ".join(f"{_WRITTEN.get(package, package)} {version}" for package, version in found.items())


def git_state(file: Path) -> dict[str, Any] | None:
    """Commit of the checkout that ``file`` belongs to, and whether tracked files differ from it; None if it
    belongs to none."""
    folder = file.parent
    try:
        _git(folder, "ls-files", "--error-unmatch", file.name)  # installed inside somebody's checkout?
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changed)}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
