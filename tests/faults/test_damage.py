"""Every file of a checkpoint, damaged in every way: always noticed, never loaded, one line."""

import random
import shutil

import pytest

from fewstep.cli import main
from fewstep.errors import FewstepError
from fewstep.runs import checkpoint, segments
from fewstep.runs.layout import RunDir
from tests.e2e.helpers import one_line, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A real run with two checkpoints and several segments; tests put back what they damage."""
    path = tmp_path_factory.mktemp("damage") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "SEGMENT_BYTES", 2000)
        assert train(path) == 0
    return RunDir.open(path)


def files(run):
    newest = run.checkpoints / "000000400"
    return [*sorted(newest.iterdir()), *sorted((run.checkpoints / "segments").iterdir())]


def damaged(content):
    """The content with single bits flipped (at both ends and at random), cut short, and lengthened."""
    chance = random.Random(len(content))
    places = [0, 1, 7, 8, len(content) - 1, *(chance.randrange(len(content)) for _ in range(20))]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        yield f"bit in byte {place}", bytes(flipped)
    for length in (0, 1, len(content) // 2, len(content) - 1):
        yield f"cut to {length}", content[:length]
    yield "one byte more", content + b"\0"


def test_every_damage_to_every_file_is_noticed(run):
    tried = 0
    for path in files(run):
        content = path.read_bytes()
        for what, broken in damaged(content):
            path.write_bytes(broken)
            with pytest.raises(FewstepError, match="is damaged") as error:
                checkpoint.load(run.checkpoints / "000000400")
            assert "\n" not in str(error.value), what
            tried += 1
        path.unlink()
        with pytest.raises(FewstepError, match=f"{path.name} is missing|is damaged"):
            checkpoint.load(run.checkpoints / "000000400")
        tried += 1
        path.write_bytes(content)
        checkpoint.load(run.checkpoints / "000000400")
    print(f"{tried} faults in {len(files(run))} files, all noticed")
    assert tried >= 300


def test_a_run_whose_replay_is_lost_goes_on_with_what_it_has_learned(run, tmp_path, capsys):
    """Both checkpoints need the first segment."""
    copy = RunDir(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    min((copy.checkpoints / "segments").iterdir()).unlink()
    assert main(["resume", str(copy.path), "--steps", "500", "--quiet"]) == 1
    one_line(capsys.readouterr().err, "every checkpoint", f"fewstep resume {copy.path} --without-replay")
    assert main(["resume", str(copy.path), "--steps", "500", "--quiet", "--without-replay"]) == 0
    saved = checkpoint.load(copy.checkpoints / "000000500")
    assert saved.meta["updates"] == 351 + 51  # 400 steps, then 50 without an update
    assert len(saved.groups["replay"]["reward"]) == 100


def test_every_bit_of_the_manifest(run):
    """It has no checksum of its own: each of its bits must matter by itself."""
    path = run.checkpoints / "000000400" / "manifest.json"
    content = path.read_bytes()
    try:
        for place in range(len(content)):
            for bit in range(8):
                flipped = bytearray(content)
                flipped[place] ^= 1 << bit
                path.write_bytes(flipped)
                with pytest.raises(FewstepError):
                    checkpoint.load(run.checkpoints / "000000400")
    finally:
        path.write_bytes(content)
