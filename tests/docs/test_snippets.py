"""The snippets of the documentation: Python is run, command lines are parsed with settings, TOML is read.

What is run is made small by ``SMALLER``, applied to the text of every Python block; nothing else is changed.
Training ends before its first update, which would take the compiler longest; others test that.
"""

import re
import tomllib

import pytest

from fewstep.algos import registry
from fewstep.algos.contract import ActionMode, parse_mode
from fewstep.cli import main
from fewstep.cli.common import resolved, seeds_of
from fewstep.cli.main import COMMANDS, parser
from fewstep.config import presets, resolve
from fewstep.deploy.formats import registry as formats
from fewstep.experiments import plan, spec
from fewstep.sinks import SINKS
from fewstep.tuning import spec as tuning
from fewstep.types import Spec
from tests.deploy.helpers import TINY, exported
from tests.docs.pages import PAGES, ROOT, blocks, commands, name_of, prose

TINY_SETTINGS = {
    "replay.learning_starts": 1_000,
    "training.max_episode_steps": 5,
    "actor.hidden": [8],
    "critic.hidden": [8],
}
SMALLER = (
    (r"total_timesteps=[\d_]+", "total_timesteps=25"),
    (r"episodes=\d+", "episodes=1"),
    (r'preset="small"', 'preset="small", **TINY_SETTINGS'),
)
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
PLACEHOLDERS = {"ALGO", "ENV", "mine:ALGORITHM", "awac:ALGORITHM", "module:ATTRIBUTE"}


def exported_as(name):
    """What the commands at the top of a page write."""

    def write(folder):
        artefact = exported("sac", TINY["sac"], spec=Spec(17, 6))
        for to in ("onnx", "stablehlo"):
            formats.write(artefact, to, folder / name)

    return write


BEFORE = {"docs/export.md": exported_as("cheetah"), "docs/robot.md": exported_as("policy")}
"""What a page's snippets find in the folder that they are run in."""


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page one after the other, in one namespace; one that begins with the name of a file is
    that file, too."""
    monkeypatch.chdir(tmp_path)
    BEFORE.get(name_of(page), lambda folder: None)(tmp_path)
    names = {"__name__": "snippet", "TINY_SETTINGS": TINY_SETTINGS}
    for text in blocks(page, "python"):
        file = re.match(r"# (\w+\.py)\n", text)
        if file:
            (tmp_path / file[1]).write_text(text)
            continue
        for pattern, small in SMALLER:
            text = re.sub(pattern, small, text)
        exec(compile(text, name_of(page), "exec"), names)
    if "model" in names:
        assert names["model"].num_timesteps == 25
    if "policy" in names:
        assert names["action"].shape == (1, 6)


@pytest.mark.parametrize(
    ("page", "env", "limit"),
    [
        ("environments.md", "my_tasks:Reach-v0", 200),
        ("environments.md", "dots:Dots-v0", 1),
        ("tutorials/own-environment.md", "hover:Hover-v0", 200),
    ],
)
def test_the_environment_of_the_page_is_sound(page, env, limit, tmp_path, monkeypatch, capsys):
    file = f"{env.partition(':')[0]}.py"
    every = blocks(ROOT / "docs" / page, "python")
    (text,) = every if len(every) == 1 else (text for text in every if text.startswith(f"# {file}"))
    (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check-env", env]) == 0
    assert f"time limit {limit}" in capsys.readouterr().out


COMMAND_LINES = [
    pytest.param(words[1:], id=" ".join([name_of(page), *words[1:4]]))
    for page in PAGES
    for words in commands(page)
    if words[0] == "fewstep"
]


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_command_lines_are_understood(words):
    """By the real parser; settings, presets and names are looked up as when the command runs."""
    arguments = parser().parse_args(words)
    match words[0]:
        case "train" | "config":
            if arguments.config is not None:  # the file is a block of the page: see below
                arguments.config = None
            if arguments.algo not in PLACEHOLDERS:
                assert resolved(arguments).algo == arguments.algo
            if getattr(arguments, "seeds", None):
                assert seeds_of(arguments.seeds)
        case "presets" | "settings" | "cite":
            if arguments.algo is not None:
                registry.get(arguments.algo)
        case "experiment":
            if arguments.spec.parent.name == "benchmarks":
                assert plan.expand(spec.read(ROOT / arguments.spec), ROOT / "nowhere")
        case "export":
            formats.get(arguments.to, arguments.prefix)
            parse_mode(arguments.actions, ActionMode())
        case "evaluate":
            for mode in arguments.actions or ():
                parse_mode(mode, ActionMode())
        case "sync":
            assert arguments.to in SINKS
        case "bench":
            if arguments.what != "envs":
                for name in arguments.names or ["sac"]:
                    resolve(name, registry.get(name).config, "HalfCheetah-v4", sets=arguments.sets)
        case _:
            assert words[0] in COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_text_exist(page):
    """``fewstep`` in code spans: the command, its options, and the presets after ``--preset``."""
    for span in re.findall(r"`fewstep ([^`]+)`", prose(page)):
        words = span.split()
        if words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, span
        known = options(words[0])
        for word in words[1:]:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, span
    for algo, preset in re.findall(r"`fewstep train (\w+) [^`]*--preset (\w[\w-]*)", prose(page)):
        assert algo not in registry.BUILT_IN or preset in presets.names(algo)


def options(command):
    actions = next(a for a in parser()._actions if a.dest == "command").choices[command]._actions
    return {text for action in actions for text in action.option_strings}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=name_of)
def test_toml_is_read(page, tmp_path):
    for text in blocks(page, "toml"):
        (tmp_path / "file.toml").write_text(text)
        tree = tomllib.loads(text)
        if "project" in tree:
            continue  # a package of the user's
        if "search" in tree:
            assert tuning.read(tmp_path / "file.toml").space
        elif "run" in tree:
            assert plan.expand(spec.read(tmp_path / "file.toml"), tmp_path / "out")
        else:
            resolve("mfpo", registry.get("mfpo").config, "HalfCheetah-v4", file=tmp_path / "file.toml")


def test_help_texts_name_commands_that_exist():
    for command in COMMANDS:
        actions = next(a for a in parser()._actions if a.dest == "command").choices[command]._actions
        for action in actions:
            for span in re.findall(r"`fewstep ([^`]+)`", action.help or ""):
                assert span.split()[0] in COMMANDS, action.help
            assert "docs/" not in (action.help or ""), "an installed package has no docs"
