"""The reference of settings says what the code does."""

import re
from pathlib import Path

import pytest

from fewstep.algos import registry
from fewstep.cli import main
from fewstep.cli import settings as command
from fewstep.config import TrainingConfig, known_settings, presets, resolve, settings
from fewstep.errors import UsageError
from tests.e2e.helpers import TINY, one_line

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
CONFIGS = {name: registry.get(name).config for name in registry.BUILT_IN} | {"training": TrainingConfig}
ROWS = [
    pytest.param(CONFIGS[name], row, id=f"{name}-{row.name}")
    for name in CONFIGS
    for section in ([command.loop()] if name == "training" else command.algorithm(name, CONFIGS[name]))
    for row in section.rows
]
RELATION = r"below|above|between|than|even|whole|divide|need|at (least|most)"
PROBES = (-1000, -1, 0, 0.3, 1, 1.5, 2, 3, 10, 100, 10_000)


def test_the_page_is_what_the_command_prints(capsys):
    """Otherwise: fewstep settings --markdown > docs/settings.md"""
    assert main(["settings", "--markdown"]) == 0
    assert capsys.readouterr().out == PAGE.read_text()


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_setting_that_can_be_set_is_listed_once(name, capsys):
    assert main(["settings", name]) == 0
    shown = re.findall(r"^  ([\w.]+) = ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(shown) == sorted(known_settings(CONFIGS[name]))


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_values_are_those_of_a_run(name):
    """Each as ``--set`` takes it, of every preset."""
    rows = [row for section in command.algorithm(name, CONFIGS[name]) for row in section.rows]
    rows += command.loop(name, CONFIGS[name]).rows
    for preset in rows[0].values:
        sets = [f"{row.name}={row.values[preset]}" for row in rows]
        assert (
            resolve(name, CONFIGS[name], "", sets=sets).to_toml().partition("\n\n")[2]
            == (resolve(name, CONFIGS[name], "", preset=preset).to_toml().partition("\n\n")[2])
        )


@pytest.mark.parametrize(("cls", "row"), ROWS)
def test_a_setting_has_a_meaning_and_its_range_is_true(cls, row):
    assert row.meaning, "give it a text under Attributes: of its config class"
    assert row.meaning.endswith("."), row.meaning
    name = row.name.removeprefix("training.") if cls is TrainingConfig else row.name
    whole = row.kind.startswith("whole number")
    if not whole and not row.kind.startswith("number"):
        return

    def refused(value):
        try:
            settings.build(cls, {name: int(value) if whole else float(value)})
        except UsageError:
            return True
        return False

    owner, field = owner_of(cls, name)
    allowed = settings.ranges(owner).get(field)
    for value in PROBES:
        if whole and value % 1:
            continue
        if allowed is not None and value not in allowed:
            assert refused(value)
        elif refused(value):  # because of another setting, or of what a range cannot say
            assert re.search(RELATION, row.meaning.lower())


def owner_of(cls, name):
    """The class that a dotted setting is a field of, and the field."""
    part = cls()
    *sections, field = name.split(".")
    for section in sections:
        part = getattr(part, section)
    return type(part), field


def test_an_algorithm_of_the_users_own_has_a_reference_too(capsys):
    assert main(["settings", TINY]) == 0
    out = capsys.readouterr().out
    assert "  actor.candidates = 4\n" in out
    assert "TinyConfig(" not in out
    assert "  training.steps = 1000000\n" in out
    assert main(["settings", "smpf"]) == 2
    one_line(capsys.readouterr().err, "did you mean 'smfp'?")


def test_help_points_to_it(capsys):
    for words in (["train"], ["config"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        assert "fewstep settings ALGO" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_presets_are_described_in_whole_sentences(name, capsys):
    assert main(["presets", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for preset, about in presets.names(name).items():
        assert f"{preset} {about}" in shown
        assert about.endswith("."), about
    if name == "sac":
        assert "number of random steps, and a tanh-Gaussian in place of the stochastic MeanFlow." in shown
