"""What may be searched: intervals, choices, ``"auto"``; and one line for what may not."""

import tomllib
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from fewstep.config import settings
from fewstep.config.settings import Count, Positive, Range, Section, Share, ShareBelowOne, Sizes
from fewstep.errors import UsageError
from fewstep.tuning import space
from fewstep.tuning.space import Choices, Interval


@dataclass(frozen=True)
class Critic(Section):
    tau: Share = 0.1
    discount: ShareBelowOne = 0.99
    kind: Literal["twin", "single"] = "twin"
    layers: Annotated[int, Range(1, 4)] = 2


@dataclass(frozen=True)
class Config(Section):
    rate: Positive = 1e-3
    batch: Count = 32
    hidden: Sizes = (64,)
    automatic: bool = True
    target: float | None = None
    name: str = "a"
    critic: Critic = field(default_factory=Critic)


def parsed(text):
    return space.parse(tomllib.loads(text), settings.schema(Config), settings.all_ranges(Config), "search")


@pytest.mark.parametrize(
    ("text", "name", "domain"),
    [
        ("rate = { low = 1e-4, high = 1, log = true }", "rate", Interval(1e-4, 1.0, False, True)),
        ("batch = { low = 32, high = 2.56e2, step = 32 }", "batch", Interval(32, 256, True, step=32)),
        (
            '"critic.tau" = { low = 0.1, high = 0.7, step = 0.2 }',
            "critic.tau",
            Interval(0.1, 0.7, False, step=0.2),
        ),
        ("[critic]\ntau = { low = 0, high = 1 }", "critic.tau", Interval(0.0, 1.0, False)),
        ("[critic.tau]\nlow = 0\nhigh = 1", "critic.tau", Interval(0.0, 1.0, False)),
        ("hidden = [[64], [64, 64]]", "hidden", Choices(((64,), (64, 64)))),
        ('target = ["none", 1]', "target", Choices((None, 1.0))),
        ('"critic.tau" = "auto"', "critic.tau", Interval(0, 1, False)),
        ('"critic.layers" = "auto"', "critic.layers", Interval(1, 4, True)),
        ('"critic.kind" = "auto"', "critic.kind", Choices(("twin", "single"))),
        ('automatic = "auto"', "automatic", Choices((False, True))),
    ],
)
def test_domains(text, name, domain):
    assert parsed(text) == {name: domain}


def test_every_value_of_a_choice_is_a_text_that_gives_it_back():
    texts = parsed('hidden = [[64], [64, 64]]\ntarget = ["none", 1]')
    assert [domain.texts for domain in texts.values()] == [("[64]", "[64, 64]"), ('"none"', "1.0")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["search must be a table"]),
        ("rat = [1, 2]", ["unknown setting 'rat'", "did you mean 'rate'?"]),
        ('"critic.tou" = { low = 0, high = 1 }', ["unknown setting 'critic.tou'", "'critic.tau'"]),
        ("rate = 3", ["rate must be { low", "got 3"]),
        ("rate = { low = 1 }", ["rate: no high"]),
        ("rate = { low = 1, high = 1 }", ["low must be less than high", "got 1 and 1"]),
        ("rate = { low = 2, high = 1 }", ["low must be less than high", "got 2 and 1"]),
        ("rate = { low = 1, high = inf }", ["rate: high must be finite"]),
        ("rate = { low = nan, high = 1 }", ["rate: low must be finite"]),
        ("rate = { low = 0, high = 1 }", ["rate: low must be positive, got 0"]),
        ("rate = { low = 1, high = 2, lgo = true }", ["rate: unknown key 'lgo'"]),
        ("rate = { low = 1, high = 2, log = 1 }", ["log must be true or false"]),
        ("batch = { low = 1.5, high = 2 }", ["batch: low must be a whole number"]),
        ("target = { low = -1, high = 1, log = true }", ["with log = true, low must be positive"]),
        ("rate = { low = 1, high = 2, log = true, step = 1 }", ["log and step exclude each other"]),
        ("rate = { low = 1, high = 2, step = 0.3 }", ["whole steps apart", "steps of 0.3"]),
        ("rate = { low = 1, high = 2, step = -1 }", ["whole steps apart"]),
        ('"critic.tau" = { low = 0.5, high = 1.5 }', ["critic.tau: high must be in [0, 1], got 1.5"]),
        ("automatic = { low = 0, high = 1 }", ["automatic is not a number", "list of choices"]),
        ("rate = []", ["rate has 0 choice(s)", "two or more"]),
        ("rate = [1]", ["rate has 1 choice(s)"]),
        ("rate = [1, 1.0]", ["names a choice twice"]),
        ('rate = [1, "wide"]', ["rate: a choice must be a number", "'wide'"]),
        ("rate = [1, -1]", ["a choice must be positive, got -1"]),
        ("hidden = [64, 64]", ["hidden: a choice must be a list"]),
        ("hidden = [[64], [0]]", ["hidden: a choice must be at least 1"]),
        ('"critic.kind" = ["twin", "triple"]', ["must be one of twin, single", "'triple'"]),
        ('rate = "auto"', ["rate may be positive", "too much for"]),
        ('batch = "auto"', ["batch may be at least 1"]),
        ('target = "auto"', ["target may be any number"]),
        ('name = "auto"', ["name has no range of its own"]),
        ('hidden = "auto"', ["hidden has no range of its own"]),
        ('"critic.discount" = "auto"', ["in [0, 1)", "open interval"]),
        (
            'rate = [1, 2]\n[critic]\ntau = [1, 0.5]\n["critic.tau"]\nlow = 0\nhigh = 1',
            ["critic.tau is given twice"],
        ),
    ],
)
def test_one_line_says_what_cannot_be(text, parts):
    with pytest.raises(UsageError) as caught:
        parsed(text)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_every_range_of_the_annotations_is_found_under_its_dotted_name():
    found = settings.all_ranges(Config)
    assert list(found) == ["rate", "batch", "hidden", "critic.tau", "critic.discount", "critic.layers"]
    assert found["critic.tau"] == Range(0, 1)
    assert found["hidden"] == Range(1)
