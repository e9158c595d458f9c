"""The report in headless Chromium (skipped where there is none): it renders, says and fetches nothing."""

import json
import re
import shutil
import subprocess
from html import escape

import pytest
from PIL import Image

from fewstep.analysis.report import write_report
from tests.analysis.fabricate import Made, make

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
PHONE, DESK = 390, 1280


def opened(page, folder, width, *more):
    """Screenshot of a page, what it wrote to the console, and the addresses it asked for."""
    picture, log = folder / "page.png", folder / "net.json"
    profile = [f"--user-data-dir={folder / 'profile'}", "--no-first-run", "--disable-background-networking"]
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *profile]
    words += ["--enable-logging=stderr", f"--window-size={width},2400", f"--screenshot={picture}"]
    words += [f"--log-net-log={log}", *more, page.as_uri()]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    console = re.findall(r".*CONSOLE.*", done.stderr)
    starts = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for itself (updates, dictionaries) has no page as its initiator.
    asked = {
        one["url"]
        for one in starts
        if one.get("initiator", "not an origin") != "not an origin" and not one["url"].startswith("data:")
    }
    return Image.open(picture).convert("RGB"), console, asked


def runs(kind, root):
    if kind == "single":
        return [make(root / "run", Made())]
    if kind == "crashed":
        path = make(root / "run", Made(rows=5))
        (path / "evaluations.jsonl").unlink()
        (path / "metrics.jsonl").write_text((path / "metrics.jsonl").read_text()[:-40])
        return [path, make(root / "whole", Made())]
    some = [Made(env=env, algo=algo, seed=seed) for env in ("HalfCheetah-v4", "Hopper-v4")
            for algo in ("mfpo", "sac") for seed in range(2)]  # fmt: skip
    return [make(root / f"run-{k}", made) for k, made in enumerate(some)]


@pytest.mark.parametrize("kind", ["single", "crashed", "comparison"])
def test_the_report_renders_alone(kind, tmp_path):
    page = write_report(runs(kind, tmp_path), tmp_path / "report.html")
    desk, console, asked = opened(page, tmp_path, DESK)
    assert console == []
    assert asked == set()
    assert len(desk.getcolors(1 << 24)) > 50, "figures and text, not one flat colour"


MEASURE = """
<script>
const bottom = element => element.getBoundingClientRect().bottom;
const frames = [...document.querySelectorAll('iframe')].map(frame => {
    const page = frame.contentDocument;
    page.querySelectorAll('details').forEach(part => { part.open = true; });
    const boxes = [...page.querySelectorAll('.scroll')];
    return {
        width: page.documentElement.scrollWidth,
        curve: [...page.querySelectorAll('svg')].map(bottom).find(end => end > 0),  // hidden ones end at 0
        boxes: Math.max(...boxes.map(box => box.getBoundingClientRect().right)),
        cut: boxes.filter(box => box.firstChild.offsetWidth > box.scrollWidth).length,
        wider: boxes.filter(box => box.scrollWidth > box.clientWidth).length,
        still: boxes.filter(box => getComputedStyle(box).overflowX !== 'auto').length,
        unmarked: boxes.filter(box => getComputedStyle(box).backgroundImage === 'none').length,
    };
});
document.title = JSON.stringify(frames);
</script>
"""


def measured(page, folder, *sizes):
    """What the page measures in frames of ``(width, height)``, all its folded parts open."""
    # The report forbids every script, so the copy that is measured must lose that rule.
    copy = escape(re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text()))
    frames = "".join(
        f'<iframe width="{width}" height="{height}" style="border:0" srcdoc="{copy}"></iframe>'
        for width, height in sizes
    )
    probe = folder / "probe.html"
    # A frame is loaded when the page is: the script waits for that.
    script = MEASURE.replace("<script>", "<script>onload = () => {").replace("</script>", "};</script>")
    probe.write_text(f"<title></title>{frames}{script}")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,2400",
         f"--user-data-dir={folder / 'probe'}", "--virtual-time-budget=20000", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return json.loads(re.search(r"<title>(\[.*?\])</title>", done.stdout)[1])


@pytest.mark.parametrize("kind", ["single", "comparison"])
def test_the_curve_is_on_the_first_screen_and_no_table_is_cut(kind, tmp_path):
    page = write_report(runs(kind, tmp_path), tmp_path / "report.html")
    desk, phone = measured(page, tmp_path, (DESK, 800), (PHONE, 844))
    assert 100 < phone["curve"] < 844
    assert 100 < desk["curve"] < 800
    for found, width in ((desk, DESK), (phone, PHONE)):
        assert found["width"] <= width, "the page itself must not scroll sideways"
        assert found["boxes"] <= width
        assert found["cut"] == found["still"] == 0, "what does not fit is reached inside its own box"
        assert found["unmarked"] == 0, "a shadow says that a table goes on"
    assert phone["wider"] > 0, "or nothing was measured"


def test_night_is_dark(tmp_path):
    page = write_report(runs("single", tmp_path), tmp_path / "report.html")
    corners = []
    for scheme in ("0", "1"):  # dark, light
        picture, *_ = opened(page, tmp_path, PHONE, f"--blink-settings=preferredColorScheme={scheme}")
        corners.append(sum(picture.getpixel((3, 3))))
    assert corners[0] < 200 < 600 < corners[1]


def test_a_page_that_asks_and_complains_would_be_caught(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://example.invalid/x.png'><script>console.error('no')</script>")
    _, console, asked = opened(page, tmp_path, DESK)
    assert asked == {"http://example.invalid/x.png"}
    assert any("no" in line for line in console)
