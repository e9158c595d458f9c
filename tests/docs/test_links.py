"""Every link and picture of the documentation leads somewhere, and what it names exists."""

import re
import tomllib

import pytest

from tests.docs.pages import PAGES, ROOT, commands, name_of, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """The anchors of a page's headings, as code hosts make them."""
    found = []
    for title in re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_page_is_linked_from_readme_or_from_one_that_is():
    """But the page of a package index, which stands for README there."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [target.partition("#")[0] for target in LINK.findall(prose(page))]
        waiting += [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
    assert set(PAGES) - reached == {ROOT / "docs" / "package.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_other_commands_name_what_exists(page):
    """``make`` targets, modules of benchmarks, extras of the package."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = page.read_text()
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, words
    for name in re.findall(r"`make ([a-z-]+)`", text):
        assert name in targets, name
    for name in re.findall(r"python -m benchmarks\.(\w+)|python benchmarks/(\w+)\.py", text):
        assert (ROOT / "benchmarks" / f"{''.join(name)}.py").is_file(), name
    for names in re.findall(r"fewstep\[([a-z,]+)\]", text):
        assert set(names.split(",")) <= set(extras), names
    for name in re.findall(
        r"`((?:src|tests|docs|benchmarks|analysis|algos|training|deploy|flows|nets)/[\w/.-]+)`", text
    ):
        assert (ROOT / name).exists() or (ROOT / "src" / "fewstep" / name).exists(), name
