"""The source distribution, and the wheel built from it: installed into an empty environment and used."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser

import pytest

from tests.packaging.test_dependencies import PROJECT, ROOT, relative

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what belongs into it is known from git"),
]
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
FAST = (
    "replay.learning_starts=50",
    "replay.batch_size=8",
    "training.eval_every=100",
    "training.eval_episodes=1",
    "training.max_episode_steps=20",
    "actor.hidden=[8]",
    "critic.hidden=[8]",
)
EXPERIMENT = f"""
envs = ["HalfCheetah-v4"]
seeds = [0]
steps = 100
set = {{{", ".join(f'"{name}" = {value}' for name, value in (text.split("=") for text in FAST))}}}
[[run]]
algo = "td3"
preset = "small"
"""


def call(*words, cwd=ROOT, **variables):
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=CLEAN | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


def tracked():
    """The repository's files as they are here, also those that are not committed yet."""
    listed = call("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The unpacked source distribution, made from a copy: a build leaves files where it works."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "copy" / name)
    venv.create(folder / "builder", with_pip=True)
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    call(folder / "builder/bin/python", "-m", "pip", "install", "--quiet", *needs)
    program = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    call(folder / "builder/bin/python", "-c", program, cwd=folder / "copy")
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / packed.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source):
    python = source.parent / "builder/bin/python"
    call(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", source.parent, source)
    (path,) = source.parent.glob("*.whl")
    return path


def test_the_source_distribution_holds_every_file_of_the_repository(source):
    missing = [name for name in tracked() if not (source / name).is_file()]
    assert missing == []


def test_its_own_tests_run_in_it(source):
    words = [
        "tests/runs/test_config.py",
        "tests/test_architecture.py",
        "tests/docs/test_links.py",
        "tests/docs/test_settings.py",
    ]
    own = {"PYTHONPATH": str(source / "src")}
    call(sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *words, cwd=source, **own)


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(archive.read(metadata).decode())
    for name in (name for name in tracked() if name.startswith("src/")):
        assert name.removeprefix("src/") in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"fewstep"}
    assert relative(about.get_payload()) == []
    assert about["Requires-Python"] == PROJECT["requires-python"]


def test_a_bare_wheel_does_the_main_job(wheel, tmp_path):
    """In an environment with its dependencies alone, outside the repository."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    constraints = ROOT / "constraints.txt"
    call(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel, cwd=tmp_path)
    call(python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", cwd=tmp_path)

    def fewstep(*words):
        return call(tmp_path / "venv/bin/fewstep", *words, cwd=tmp_path)

    small = ("--preset", "small", "--set", *FAST)
    fewstep("train", "sac", "HalfCheetah-v4", "--steps", "100", "--out", "run", *small)
    fewstep("resume", "run", "--steps", "120")
    fewstep("evaluate", "run", "--episodes", "1")
    fewstep("report", "run", "--out", "report.html", "--tables", "tables")
    for to in ("numpy", "c"):
        fewstep("export", "run", "--to", to)
    (tmp_path / "compare.toml").write_text(EXPERIMENT)
    fewstep("experiment", "compare.toml", "--out", "compare")
    assert "candidates" in fewstep("paper", "smfp")
    fewstep("paper", "mfpo", "proposals", "--dry-run")
    assert "FAIL" not in fewstep("doctor")
    where = call(python, "-c", "import fewstep; print(fewstep.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))
