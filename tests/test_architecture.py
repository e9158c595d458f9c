"""The arrows between rooms run one way, and the rooms that must stay light never import jax."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "fewstep"
EVERYWHERE = {"types", "errors", "foreign", "interrupts", "printing", "config"}
ARROWS = {
    "types": set(),
    "errors": set(),
    "foreign": set(),
    "interrupts": set(),
    "printing": set(),
    "habits": set(),
    "config": {"habits"},
    "suites": set(),
    "envs": {"suites"},
    "data": {"envs"},
    "replay": set(),
    "runs": set(),
    "flows": set(),
    "nets": set(),
    "critics": {"nets"},
    "algos": {"flows", "critics", "nets"},
    "training": {"algos", "envs", "suites", "data", "replay", "runs"},
    "analysis": {"runs", "envs", "suites"},
    "experiments": {"algos", "envs", "runs"},
    "papers": {"algos", "analysis", "runs", "envs", "flows", "nets", "training", "bench"},
    "tuning": {"experiments", "analysis", "algos", "runs"},
    "sharing": {"analysis", "runs"},
    "sinks": {"runs"},
    "bench": {"algos", "critics", "nets", "envs", "training", "api", "deploy"},
    "deploy": {"algos", "nets"},
    "functional": {"algos"},
    "api": {"training", "algos", "envs", "runs", "deploy", "habits"},
    "callbacks": {"api"},
    "cli": {
        "api",
        "training",
        "algos",
        "envs",
        "suites",
        "data",
        "runs",
        "analysis",
        "deploy",
        "experiments",
        "papers",
        "tuning",
        "sharing",
        "sinks",
        "bench",
    },
    "__main__": {"cli"},
    "__init__": {"api", "envs", "algos"},
}
INSIDE = {  # in these rooms a part imports itself and those listed before it
    "algos": "contract numerics plugin shared sac crossq dacer dime dipo dpmd flac flag flame flowrl fpmd "
    "maxentdp mdpo meanflowql mfpo mpo ppo qsm qvpo sacflow sdac smfp som td3 normalised registry",
    "analysis": "numbers runs statistics figures report",
    "config": "settings replay presets run",
    "critics": "categorical gaussian heads ensemble",
    "deploy": "program tracing runtime formats export pacing",
    "envs": "messages layers rendering place spaces toys suites registry adapter process vector check "
    "interface",
    "sharing": "card bundle hub zoo",
    "tuning": "space spec study runs report",
    "training": "seeds signals state_io donation compiled acting demands collect learner trainer device "
    "saved_policy saved_model saved_replay evaluation run several",
}
WITHOUT_JAX = (
    "types",
    "errors",
    "foreign",
    "config",
    "suites",
    "envs",
    "data",
    "replay",
    "runs",
    "analysis",
    "sharing",
    "sinks",
    "cli",
)


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


PACKAGES = {f"fewstep.{path.parent.name}" for path in ROOT.glob("*/__init__.py")}


def imported(path):
    """Modules a file imports anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            if node.module == "fewstep" or node.module in PACKAGES:
                for name in node.names:
                    yield f"{node.module}.{name.name}", node.lineno
            else:
                yield node.module, node.lineno


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_run_one_way(path):
    room = room_of(path)
    assert room in ARROWS, f"{room} is a new room: say in this test what it may import"
    allowed = ARROWS[room] | EVERYWHERE | {room, "__version__"}
    for module, line in imported(path):
        parts = module.split(".")
        if parts[0] == "fewstep" and len(parts) > 1:
            assert parts[1] in allowed, f"{path}:{line}: {room} may not import {module}"


@pytest.mark.parametrize("room", INSIDE)
def test_arrows_inside_a_room_run_one_way(room):
    order = [*INSIDE[room].split(), "__init__"]
    for path in (ROOT / room).rglob("*.py"):
        part = path.relative_to(ROOT / room).parts[0].removesuffix(".py")
        assert part in order, f"{part} is a new part of {room}: say in this test what it may import"
        allowed = order[: order.index(part) + 1]
        for module, line in imported(path):
            parts = module.split(".")
            if parts[:2] == ["fewstep", room] and len(parts) > 2 and parts[2] in order:
                assert parts[2] in allowed, f"{path}:{line}: {room}/{part} may not import {module}"


@pytest.mark.parametrize("room", WITHOUT_JAX)
def test_light_rooms_do_not_import_jax(room):
    """In fact, not only by name: a fresh process imports every module of the room."""
    files = [path for path in FILES if room_of(path) == room]
    modules = [".".join(("fewstep", *path.relative_to(ROOT).with_suffix("").parts)) for path in files]
    program = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\n"
    program += "assert not [m for m in sys.modules if m.split('.')[0] in ('jax', 'jaxlib', 'equinox')]"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tasks_are_listed_without_the_packages_that_have_them():
    program = """
import sys
from fewstep.cli import main
assert main(["envs"]) == 0
slow = {"gymnasium", "numpy", "mujoco", "dm_control", "gymnasium_robotics", "importlib.metadata"}
print(sorted(slow & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "dmc/dog-run" in done.stdout


def test_the_arrows_have_no_circle():
    seen: set[str] = set()

    def follow(room, trail):
        assert room not in trail, f"circle: {' -> '.join([*trail, room])}"
        for other in ARROWS[room]:
            follow(other, [*trail, room])
        seen.add(room)

    for room in ARROWS:
        follow(room, [])
    assert seen == set(ARROWS)


def test_no_file_grows_past_what_one_can_see():
    long = {
        str(path.relative_to(ROOT)): n for path in FILES if (n := len(path.read_text().splitlines())) > 400
    }
    assert not long
