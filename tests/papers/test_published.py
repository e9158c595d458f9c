"""The published numbers as files: they are read by the report, and say what the papers' items say."""

import csv

import pytest

from fewstep.analysis.runs.released import COLUMNS, read_curves
from fewstep.papers import catalogue
from tests.docs.pages import ROOT

FOLDER = ROOT / "benchmarks" / "published"
FILES = sorted(FOLDER.glob("*.csv"))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_in_the_long_format_and_named_on_the_page(path):
    found = rows(path)
    assert found
    assert tuple(found[0]) == tuple(COLUMNS)
    keys = [tuple(row[name] for name in COLUMNS[:-1]) for row in found]
    assert len(set(keys)) == len(keys)
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text()
    if path.stem != "inference":
        released = read_curves(path)
        assert set(released.curves) == {row["exp"] for row in found}


def test_the_papers_items_show_the_same_numbers():
    names = {"sacflow": "SAC-Flow", "dime": "DIME", "maxentdp": "MaxEntDP", "flowrl": "FlowRL"}
    names |= {"smfp": "SMFP", "crossq": "CrossQ"}
    held = {
        (row["exp"], row["env"], float(row["value"]))
        for name in ("smfp_index", "smfp_draft")
        for row in rows(FOLDER / f"{name}.csv")
        if row["step"] == "1000000"
    }
    item = catalogue.item("smfp", "tasks")
    assert len(item.published) > 20
    for one in item.published:
        assert (names[one.label], one.env, one.value) in held
