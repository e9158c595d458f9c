"""The site: every page has its place, it builds without a warning, and reading it needs no network."""

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

from fewstep.algos import registry
from tests.docs.pages import DOCS, ROOT, SITE

LOADING = {"img", "script", "iframe", "source", "video", "audio", "embed", "object"}
REMOTE = re.compile(r"(https?:)?//", re.IGNORECASE)


def listed():
    """The files that the toctrees name, as often as they do."""
    found = Counter()
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", SITE.read_text(), re.MULTILINE | re.DOTALL):
        names = [line for line in block.splitlines() if line and not line.startswith(":")]
        for name in set(names) - {"genindex"}:
            files = [path for path in SITE.parent.glob(f"{name}.*") if path.suffix in (".md", ".rst")]
            assert files, name
            found.update(files)
    return found


def test_every_page_is_in_exactly_one_toctree():
    pages = [page for page in DOCS if page.name != "package.md"]
    assert listed() == Counter([*pages, *(SITE.parent / "api").glob("*.rst")])


def test_every_module_of_equations_is_in_the_reference():
    page = (SITE.parent / "api" / "flows.rst").read_text()
    modules = {f"fewstep.flows.{path.stem}" for path in (ROOT / "src/fewstep/flows").glob("[!_]*.py")}
    assert set(re.findall(r"automodule:: (fewstep\.flows\.\w+)", page)) == modules


class Page(HTMLParser):
    """What a page links to and loads, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loads.append(values["href"])
        elif tag in LOADING:
            self.loads += [values[name] for name in ("src", "data", "srcset", "poster") if values.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", folder]
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run([sys.executable, *words], env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path.relative_to(folder): Page(path) for path in folder.rglob("*.html")}, folder


@pytest.mark.slow
def test_links_inside_lead_somewhere_and_every_page_is_reached(site):
    pages, folder = site
    dead, reached = [], {Path("index.html")}
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = Path(os.path.normpath(name.parent / path)) if path else name
            reached.add(target)
            if not (folder / target).is_file() or (anchor and anchor not in pages[target].anchors):
                dead.append((str(name), link))
    assert dead == []
    assert set(pages) - reached == set()


@pytest.mark.slow
def test_nothing_is_loaded_from_the_network(site):
    pages, folder = site
    for name, page in pages.items():
        for target in page.loads:
            assert not REMOTE.match(target), (name, target)
            file = unquote(re.split(r"[?#]", target)[0])
            assert target.startswith("data:") or (folder / name.parent / file).is_file(), (name, target)
    for style in folder.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", style.read_text()), style
    for script in folder.rglob("*.js"):  # the namespace of SVG is a name, not an address
        assert not re.search(r"[\"'`]https?://(?!www\.w3\.org/2000/svg)", script.read_text()), script


@pytest.mark.slow
def test_the_public_names_are_in_the_reference_with_their_shapes(site):
    pages, folder = site
    anchors = {anchor for page in pages.values() for anchor in page.anchors}
    names = {f"fewstep.{entry.model}" for entry in registry.BUILT_IN.values()}
    configs = [registry.get(name).config for name in registry.BUILT_IN]
    names |= {f"{config.__module__}.{config.__qualname__}" for config in configs}
    names |= {"fewstep.Model.learn", "fewstep.load", "fewstep.envs.make", "fewstep.deploy.DeployedPolicy.act"}
    names |= {"fewstep.algos.contract.Algorithm", "fewstep.errors.UsageError"}
    assert names - anchors == set()
    text = re.sub(r"<[^>]+>", "", (folder / "api" / "flows.html").read_text()).replace("&#39;", "'")
    assert "a: Float[Array, 'act']" in text
    assert "jaxlib" not in text
