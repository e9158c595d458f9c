"""Look at the installation: versions, device, extras, cache."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import re
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fewstep doctor`` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print one line per finding; the status is 1 if something needed does not work."""
    findings = [*_packages(), *_device(), *_simulation(), *_extras(), _cache()]
    for ok, text in findings:
        print(f"{'ok  ' if ok else 'FAIL'}  {text}")
    return 0 if all(ok for ok, _ in findings) else 1


Finding = tuple[bool, str]
EXTRAS = {
    "video": ("imageio", "imageio_ffmpeg", "PIL"),
    "onnx": ("onnx", "onnxruntime"),
    "stablehlo": ("flatbuffers",),
    "tensorboard": ("tensorboardX",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "hub": ("huggingface_hub",),
    "completion": ("shtab",),
    "data": ("minari", "h5py"),
    "tune": ("optuna",),
    "ray": ("ray",),
    "slurm": ("submitit",),
}
"""Extra -> the modules it brings."""


def _packages() -> list[Finding]:
    findings: list[Finding] = [(True, f"python {platform.python_version()}")]
    for line in importlib.metadata.requires("fewstep") or []:
        if "extra ==" in line:
            continue
        name = re.split(r"[<>=!~ ;\[]", line, maxsplit=1)[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings.append((False, f"{name} is not installed; fewstep needs {line}"))
            continue
        ok = _satisfies(version, line[len(name) :])
        findings.append((ok, f"{name} {version}" + ("" if ok else f"; fewstep needs {line}")))
    return findings


def _satisfies(version: str, specifier: str) -> bool:
    """Whether a release version meets a requirement made of ``==``, ``>=`` and ``<``, as fewstep's are."""
    have = _numbers(version)
    for operator, text in re.findall(r"(==|>=|<)\s*([\d.]+)", specifier):
        want = _numbers(text)
        width = max(len(have), len(want))
        left, right = (parts + (0,) * (width - len(parts)) for parts in (have, want))
        if not {"==": left == right, ">=": left >= right, "<": left < right}[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split("."))  # type: ignore[index]


def _device() -> list[Finding]:
    try:
        from fewstep.algos import numerics

        return [(True, f"jax runs on {numerics.device()}")]
    except Exception as error:
        return [(False, _line(error))]


def _simulation() -> list[Finding]:
    from fewstep import envs

    findings: list[Finding] = []
    for env_id in ("InvertedPendulum-v4", "toy/bandit"):
        try:
            vector = envs.make(env_id)
            vector.reset([0])
            vector.close()
            findings.append((True, f"{env_id} can be built and reset"))
        except Exception as error:
            findings.append((False, f"{env_id}: {_line(error)}"))
    return findings


def _extras() -> list[Finding]:
    findings: list[Finding] = []
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        hint = f"not installed ({', '.join(missing)}): pip install 'fewstep[{extra}]'"
        findings.append((True, f"extra {extra}: {hint if missing else 'installed'}"))
    return findings


def _cache() -> Finding:
    path = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return True, f"compiled programs are kept in {path}"
    return True, f"compiled programs cannot be kept in {path} (not writable); every start compiles anew"


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
