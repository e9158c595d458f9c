"""Sharing a trained policy: what is in it, to the Hub and back, and what is refused."""

import csv
import io
import json
import re
import shutil
import sys

import pytest

import fewstep
from fewstep.analysis.runs.reading import read_run
from fewstep.cli import main
from fewstep.errors import FewstepError, UsageError
from fewstep.runs.layout import RunDir
from fewstep.sharing import bundle, card, hub
from tests.e2e.helpers import one_line
from tests.sharing.hub_server import serving

FETCH = "fewstep pull me/pole --out policy"
SETTINGS = "actor.hidden=[8] critic.hidden=[8] training.eval_every=100 training.eval_episodes=2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of a short run."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        words = ["train", "sac", "Pendulum-v1", "--preset", "small", "--seed", str(seed), "--steps", "200"]
        assert main([*words, "--out", str(root / f"{seed}"), "--quiet", "--set", *SETTINGS.split()]) == 0
    return [root / "0", root / "1"]


@pytest.fixture
def service(monkeypatch, tmp_path):
    with serving() as server:
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_bundle_holds_what_it_may_and_no_path_of_this_machine(runs):
    files = bundle.pack(runs, FETCH, "mit")
    assert set(files) == set(bundle.NAMES)
    for name, data in files.items():
        assert str(runs[0].parent).encode() not in data, name
    rows = list(csv.DictReader(io.StringIO(files["curves.csv"].decode())))
    found = read_run(runs[1]).evaluations
    mine = [float(row["value"]) for row in rows if row["seed"] == "1"]
    assert mine == [one.mean for one in found]
    assert {row["env"] for row in rows} == {"Pendulum-v1"}
    assert bundle.pack(runs, FETCH, "mit") == files


def test_the_card_tells_returns_with_seeds_and_intervals(runs):
    text = bundle.pack(runs, FETCH, "mit")[bundle.CARD].decode()
    head, _, rest = text.removeprefix("---\n").partition("---\n")
    keys = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in head.splitlines()}
    assert (keys["library_name"], keys["license"]) == ("fewstep", "mit")
    assert keys["model-index"][0]["results"][0]["dataset"]["name"] == "Pendulum-v1"
    assert re.search(r"\| `mode` \| .* \[.*, .*\] \(2 seeds\) \|", rest)
    assert FETCH in rest
    assert "jax `0" in rest
    alone = bundle.pack(runs[:1], FETCH)[bundle.CARD].decode()
    assert "one seed: no interval" in alone
    assert "No licence is stated." in alone
    assert "license:" not in alone


@pytest.mark.parametrize(
    "name",
    ["`x`", "a|b", "x\n---\nlicense: evil", "<script>alert(1)</script>", "[x](http://e)", "\u2028y", ""],
)
def test_a_hostile_name_stays_text(name):
    shown = card.code(name)
    assert "\n" not in shown
    assert shown[0] == shown[-1] == "`"
    fence = re.match("`+", shown)[0]
    assert fence not in shown.strip("`")
    assert not re.search(r"(?<!\\)\|", shown)


def test_to_a_folder_and_back_it_acts_as_before(runs, tmp_path, capsys):
    assert main(["push", "me/pole", str(runs[0]), "--folder", str(tmp_path / "given")]) == 0
    assert main(["pull", str(tmp_path / "given"), "--out", str(tmp_path / "got")]) == 0
    capsys.readouterr()
    told = []
    for path in (runs[0], tmp_path / "got"):
        assert main(["evaluate", str(path), "--episodes", "1", "--json"]) == 0
        told.append([json.loads(line)["returns"] for line in capsys.readouterr().out.splitlines()])
    assert told[0] == told[1]
    assert main(["report", str(tmp_path / "got"), "--out", str(tmp_path / "report.html")]) == 0
    assert main(["export", str(tmp_path / "got"), "--to", "numpy"]) == 0
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "got")]) == 2
    one_line(capsys.readouterr().err, "was fetched without checkpoints")


def test_to_the_hub_and_back(runs, service, tmp_path, capsys):
    assert main(["push", "me/pole", *map(str, runs), "--license", "mit"]) == 0
    assert capsys.readouterr().out.startswith(f"{service.url}/me/pole/commit/")
    assert set(service.repos["me/pole"]) == set(bundle.NAMES)
    service.repos["me/pole"]["evil.py"] = b"raise SystemExit"
    assert main(["pull", "me/pole", "--out", str(tmp_path / "pole")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "pole")]
    assert not list((tmp_path / "pole").rglob("evil.py"))
    assert not any(path.endswith("evil.py") for _, path in service.asked)
    assert (
        RunDir.open(tmp_path / "pole").evaluations.read_bytes()
        == (runs[0] / "evaluations.jsonl").read_bytes()
    )


@pytest.mark.parametrize("name", [bundle.SUMS, "policy/policy.safetensors"])
def test_a_truncated_download_leaves_nothing(runs, service, tmp_path, name):
    hub.push(bundle.pack(runs[:1], FETCH), "me/pole")
    whole = service.repos["me/pole"][name]
    service.repos["me/pole"][name] = whole[: len(whole) // 2]
    with pytest.raises(FewstepError, match=r"damaged|has no sound sums\.json"):
        hub.pull("me/pole", tmp_path / "pole")
    assert list(tmp_path.iterdir()) == []


def test_the_hubs_refusals_are_one_line(runs, service, tmp_path, capsys):
    assert main(["pull", "me/nothing", "--out", str(tmp_path / "pole")]) == 1
    one_line(capsys.readouterr().err, "the Hub has no me/nothing")
    service.refuse = 403
    assert main(["push", "me/pole", str(runs[0])]) == 1
    one_line(capsys.readouterr().err, "me/pole", "403", "HF_TOKEN")


def test_without_a_network_it_is_one_line(runs, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["pull", "me/pole", "--out", str(tmp_path / "pole")]) == 1
    one_line(capsys.readouterr().err, "the Hub cannot be reached")
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_what_to_install(runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["push", "me/pole", str(runs[0])]) == 2
    one_line(capsys.readouterr().err, "pip install 'fewstep[hub]'")


@pytest.mark.parametrize("repo", ["pole", "a/b/c", "../x/y", "me/..", "me/po le", "-x/y", ""])
def test_a_repository_has_a_name(repo, runs, capsys):
    assert main(["push", repo, str(runs[0])]) == 2


def test_what_is_no_bundle_is_refused(runs, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(runs[0], given)
    with pytest.raises(FewstepError, match=r"has no sound sums.json"):
        bundle.unpack(given, tmp_path / "got")
    sums = json.loads(bundle.pack(runs[:1], FETCH)[bundle.SUMS])
    for strange in ("../evil", "/etc/passwd", "policy/evil.py"):
        listed = {"bundle": 1, "files": sums["files"] | {strange: "0"}}
        (given / bundle.SUMS).write_text(json.dumps(listed))
        with pytest.raises(FewstepError, match="no right list of files"):
            bundle.unpack(given, tmp_path / "got")
    (given / bundle.SUMS).write_text(json.dumps({"bundle": 2, "files": {}}))
    with pytest.raises(FewstepError, match="has version 2"):
        bundle.unpack(given, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_runs_of_two_configurations_are_not_one_policy(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    text = (other / "config.toml").read_text()
    (other / "config.toml").write_text(text.replace("discount = 0.99", "discount = 0.9"))
    with pytest.raises(UsageError, match="differ in more than their seeds"):
        bundle.pack([runs[0], other], "me/pole")
    (other / "policy" / "policy.safetensors").unlink()
    with pytest.raises(FewstepError, match=r"policy.safetensors is missing; train until"):
        bundle.pack([other], "me/pole")


def test_the_version_of_the_package_is_in_it(runs):
    told = json.loads(bundle.pack(runs[:1], FETCH)["provenance.json"])
    assert told["versions"]["fewstep"] == fewstep.__version__
    assert "command" not in told


def test_a_seed_is_shared_once(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "copy")
    with pytest.raises(UsageError, match="a seed is given twice"):
        bundle.pack([*runs, tmp_path / "copy"], FETCH, "mit")
    with pytest.raises(UsageError, match="a seed is given twice"):
        bundle.pack([runs[0], runs[0]], FETCH, "mit")


def test_a_folder_has_no_revision(runs, tmp_path, capsys):
    assert main(["push", "me/pole", str(runs[0]), "--folder", str(tmp_path / "bundle")]) == 0
    assert main(["pull", str(tmp_path / "bundle"), "--revision", "main", "--out", str(tmp_path / "out")]) == 2
    one_line(capsys.readouterr().err, "is a folder here, which has no --revision")
