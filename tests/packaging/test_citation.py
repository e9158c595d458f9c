"""CITATION.cff and CHANGELOG.md say what the package says."""

import re

from fewstep import __version__
from fewstep.algos import registry
from tests.packaging.test_dependencies import ROOT


def test_version_and_papers():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    for name in ("smfp", "mfpo"):
        entry = registry.get(name).citation
        authors = re.search(r"author\s*= \{(.*?)\}", entry, re.DOTALL)[1]
        for person in re.split(r"\s+and\s+", authors):
            family, given = person.split(", ")
            assert f"{{family-names: {family}, given-names: {given}}}" in text
        assert re.search(r"arXiv:(\d+\.\d+)", entry)[0] in text
        title = re.search(r"title\s*= \{(.*?)\}", entry, re.DOTALL)[1]
        assert title in text
