"""What pyproject declares is what the main job needs: tried in an environment that holds nothing else."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOB = """
import sys
from fewstep.cli import main

TRAIN = ["train", "sac", "HalfCheetah-v4", "--preset", "small", "--steps", "60", "--out", "run", "--quiet"]
SETTINGS = ["eval_every=60", "eval_episodes=1", "max_episode_steps=5"]
WORDS = [
    [*TRAIN, "--set", "actor.hidden=8", "critic.hidden=8", "replay.learning_starts=50", "replay.batch_size=8",
     *(f"training.{text}" for text in SETTINGS)],
    ["resume", "run", "--steps", "70"],
    ["evaluate", "run", "--episodes", "1"],
    ["report", "run", "--out", "report.html", "--tables", "tables"],
    ["export", "run", "--to", "numpy"],
    ["export", "run", "--to", "c"],
    ["check-env", "Hopper-v5"],
    ["doctor"],
]
for words in WORDS:
    assert main(words) == 0, words
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements):
    """Names of the distributions that these requirements bring, with what they need in their turn."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            here = (normal(requirement.name), extra)
            if here in found:
                continue
            found.add(here)
            for text in importlib.metadata.requires(requirement.name) or []:
                other = Requirement(text)
                if other.marker is None or other.marker.evaluate({"extra": extra}):
                    waiting.append(other)
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The Python of an environment with fewstep and its dependencies without extras, linked from this one."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    names = closure(PROJECT["dependencies"])
    assert {"jax", "mujoco", "numpy"} <= names
    for name in [*names, "fewstep"]:
        distribution = importlib.metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    if not (site / "fewstep").exists():
        (site / "fewstep").symlink_to(ROOT / "src" / "fewstep")
    return folder / "venv" / "bin" / "python"


def test_the_main_job_runs_on_the_declared_dependencies_alone(bare, tmp_path):
    done = subprocess.run(
        [bare, "-c", JOB], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1].replace("'", '"')))
    assert {"mujoco", "jax", "matplotlib"} <= loaded
    assert not {"pytest", "onnx", "flatbuffers"} & loaded


def test_what_the_source_imports_is_declared():
    """By fewstep itself: what only a dependency happens to bring may be gone with its next version."""
    extras = PROJECT["optional-dependencies"]
    declared = [
        *PROJECT["dependencies"],
        *(text for name in extras if name != "dev" for text in extras[name]),
    ]
    names = {normal(Requirement(text).name) for text in declared}
    brought = importlib.metadata.packages_distributions()
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for top in {module.partition(".")[0] for module in modules} - {"fewstep"}:
                if top not in sys.stdlib_module_names:
                    assert names & set(map(normal, brought.get(top, [top]))), f"{path} imports {top}"


def test_the_page_of_a_package_index_has_no_relative_link():
    """There is no public address to complete one with, so the page has none, and no picture."""
    text = (ROOT / PROJECT["readme"]).read_text()
    assert text.startswith("# fewstep")
    assert relative(text) == []
    assert relative("see [this](docs/a.md), ![that](b.svg) and <img src='c.png'>") == [
        "docs/a.md",
        "b.svg",
        "c.png",
    ]


def relative(text):
    """Targets of the Markdown and HTML links and pictures of a page that are no complete address."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    markdown, html = r"\]\(([^)\s]+)", r"(?:src|href)=['\"]([^'\"]+)"
    found = [a or b for a, b in re.findall(f"{markdown}|{html}", prose)]
    return [target for target in found if not re.match(r"https?://|mailto:|#", target)]
