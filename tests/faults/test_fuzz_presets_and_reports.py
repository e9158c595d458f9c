"""Settings and run directories of a stranger: one line at worst, and a report holds text, never code."""

import json
from contextlib import suppress
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fewstep.analysis.report import write_report
from fewstep.cli import main
from fewstep.config import TrainingConfig, presets
from fewstep.errors import UsageError
from tests.analysis.fabricate import Made, make
from tests.e2e.helpers import TINY

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
HEADS = ["", "[training]", "[actor]", "[[training]]", "[training.steps]", "[a.b.c]", "[", "[training"]
NAMES = ["steps", "eval_modes", "hidden", "algo", "preset", '"../../x"', '"<script>"', "a.b.c", "=", "\x00"]
VALUES = [
    "1",
    "-1",
    "1e999",
    "nan",
    "true",
    '"x"',
    "[[[[1]]]]",
    "{a = {b = 1}}",
    "1979-05-27",
    "'''",
    '"\\ud800"',
]
VALUES += ["9" * 5000, "[" * 3000, '"' + "x" * 10_000 + '"', "0x7fffffffffffffffff", "[1, 'a', {}]"]
LINES = st.lists(
    st.sampled_from(HEADS)
    | st.tuples(st.sampled_from([*NAMES, *TrainingConfig.__dataclass_fields__]), st.sampled_from(VALUES)).map(
        " = ".join
    ),
    max_size=5,
).map("\n".join)


@QUICK
@given(content=st.binary(max_size=100) | LINES.map(lambda text: text.encode()))
def test_a_hostile_file_of_settings(tmp_path_factory, capsys, content):
    """``--config`` of a preset that was damaged or made to do harm."""
    path = tmp_path_factory.getbasetemp() / "hostile.toml"
    path.write_bytes(content)
    capsys.readouterr()
    status = main(["config", TINY, "toy/bandit", "--config", str(path)])
    said = capsys.readouterr().err
    assert status in (0, 2), said
    assert said.count("\n") == (status == 2)


def test_what_is_no_file_of_settings_at_all(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "absent.toml", tmp_path / ("x" * 300)):
        assert main(["config", TINY, "toy/bandit", "--config", str(path)]) in (1, 2)
        assert capsys.readouterr().err.count("\n") == 1


@QUICK
@given(content=st.binary(max_size=100) | LINES.map(lambda text: text.encode()))
def test_a_damaged_preset_of_the_package(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "presets"
    (root / "sac").mkdir(parents=True, exist_ok=True)
    (root / "sac" / "small.toml").write_bytes(content)
    with suppress(UsageError):
        assert isinstance(presets.load("sac", "small", root), dict)
        assert "small" in presets.names("sac", root)


@pytest.mark.parametrize("name", ["../sac/default", "/etc/passwd", "..", "", "a/b", "\x00"])
def test_a_preset_is_a_name_and_not_a_path(name, capsys):
    assert main(["config", "sac", "toy/bandit", "--preset", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


class Page(HTMLParser):
    """The tags of a page, and the attributes that could act."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.acting = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            leads = name in ("href", "src", "action", "xlink:href", "data", "srcset")
            if name.startswith("on") or (leads and not (value or "").startswith(("#", "data:image/"))):
                self.acting.add((tag, name, value))


ACTIVE = {
    "script",
    "img",
    "iframe",
    "object",
    "embed",
    "form",
    "link",
    "base",
    "meta",
    "foreignobject",
    "audio",
}
HARM = st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "</title></style></svg><iframe src=//x>",
        "--><object data=x>",
        "]]><embed>",
        "javascript:alert(1)",
        "$\\href{javascript:alert(1)}{x}$",
        "$\\frac{$",
        "&lt;script&gt;",
        "\u202e\x01\x00\ud7ff",
        "x" * 3000,
        "url(http://x)",
    ]
)
ANY = (
    HARM
    | st.tuples(HARM, st.text(max_size=6)).map("".join)
    | st.none()
    | st.integers()
    | st.just({})
    | st.just([])
)


def config(values):
    """A config.toml with the values that TOML can hold as text."""
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in values.items() if isinstance(value, str | int)
    ]
    return "\n".join(lines) + "\n[training]\nsteps = 3000\n"


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    """What a page of an ordinary run holds."""
    folder = tmp_path_factory.mktemp("harmless")
    page = write_report([make(folder / "run", Made(rows=3))], folder / "report.html")
    return Page(page.read_text())


@settings(QUICK, max_examples=4, phases=[Phase.generate])  # to shrink or explain takes minutes of drawing
@given(data=st.data())
def test_no_text_of_a_run_becomes_code_in_a_report(harmless, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("harm")
    pick = lambda: data.draw(ANY)  # noqa: E731
    text = lambda: data.draw(HARM)  # noqa: E731
    made = Made(rows=3, modes=(text(), "sample"), extra={text(): 1.0, f"actor/{text()}": 2.0})
    run = make(folder / "run", made)
    (run / "config.toml").write_text(config({name: pick() for name in ("algo", "env", "seed", "preset")}))
    told = {"device": pick(), "command": pick(), "created_at": pick(), "git": pick(), "cpu_count": pick()}
    told["versions"] = {"mujoco": pick(), "fewstep": pick(), "jax": pick()}
    (run / "provenance.json").write_text(json.dumps(told))
    (run / "policy" / "policy.json").write_text(json.dumps({"spec": pick(), "native_actions": pick()}))
    (run / "log.txt").write_text(text())
    (run / "crash").mkdir()
    (run / "crash" / "divergence.json").write_text(json.dumps({"message": text()}))
    with open(run / "evaluations.jsonl", "a") as file:
        file.write(json.dumps({"env_steps": pick(), "actions": pick(), "returns": pick()}) + "\n" + text())
    (run / "<img src=x onerror=alert(1)>.txt").write_text("a file's name")
    page = Page(write_report([run], folder / "report.html").read_text())
    assert not (page.tags - harmless.tags) & ACTIVE
    assert not page.acting - harmless.acting
