"""Rows that grow are written once, shared by checkpoints, deleted with the last of them, never confused."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fewstep.errors import FewstepError
from fewstep.replay import ReplayBuffer
from fewstep.runs import checkpoint, segments
from fewstep.runs.segments import Rows
from fewstep.types import Spec, Transition

CAPACITY = 100


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Ten transitions of 33 bytes fit one segment."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 330)


class Run:
    """A ring that is filled and saved; ``stored`` is what its owner keeps between saves."""

    def __init__(self, root, seed=0):
        self.root = root
        self.random = np.random.default_rng(seed)
        self.ring = ReplayBuffer(CAPACITY, Spec(3, 1), 0)
        self.stored = []

    def add(self, count):
        r = self.random
        obs, nxt = (r.normal(size=(count, 3)).astype(np.float32) for _ in range(2))
        action = r.uniform(-1, 1, (count, 1)).astype(np.float32)
        reward = r.normal(size=count).astype(np.float32)
        self.ring.add(Transition(obs, action, reward, r.random(count) < 0.5, nxt))

    def rows(self):
        ring = self.ring
        return Rows(ring.added - len(ring), ring.added, ring.read, self.stored, hold=ring.hold)

    def save(self, keep=2):
        return checkpoint.save(self.root, self.ring.added, {"replay": self.rows()}, {}, keep)

    def files(self):
        return {path.name: path.stat().st_mtime_ns for path in (self.root / "segments").glob("*")}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "checkpoints")


def assert_restored(folder, ring):
    """The checkpoint holds the ring to the last bit, each transition where it was."""
    rows = checkpoint.load(folder).groups["replay"]
    other = ReplayBuffer(CAPACITY, Spec(3, 1), 1)
    other.refill(rows.start, rows.stop, rows.pieces(), ring.rng_state)
    assert (other.added, len(other), other.cursor) == (ring.added, len(ring), ring.cursor)
    for name, field in ring.arrays().items():
        assert np.array_equal(other.arrays()[name], field)
        assert np.array_equal(rows[name], ring.read(rows.start, rows.stop)[name])
    return rows


def test_a_segment_is_written_once_and_the_rest_lies_in_the_checkpoint(run):
    run.add(25)
    rows = assert_restored(run.save(), run.ring)
    first = run.files()
    assert [name[:32] for name in sorted(first)] == [
        "replay-000000000000-000000000010",
        "replay-000000000010-000000000020",
    ]
    assert rows.bounds == (0, 10, 20, 25)
    run.add(14)
    assert_restored(run.save(), run.ring)
    assert run.files().items() >= first.items()
    assert len(run.files()) == 3


@pytest.mark.parametrize("steps", [7, 10, 33, 99, 100])
def test_the_ring_comes_back_after_any_number_of_rounds(run, steps):
    for _ in range(12):
        run.add(steps)
        assert_restored(run.save(), run.ring)
        # No more on disk than two checkpoints need: their rings and what sticks out at either end.
        assert len(run.files()) <= (CAPACITY + 2 * steps) / 10 + 2


def test_segments_go_with_the_last_checkpoint_that_needs_them(run):
    run.add(60)
    run.save()
    run.add(90)  # transitions 50 to 149 are left
    run.save()
    assert min(run.files()).startswith("replay-000000000000")
    run.save(keep=1)
    assert min(run.files()).startswith("replay-000000000050")


def test_rows_lost_between_two_saves_start_a_new_row_of_segments(run):
    run.add(20)
    run.save()
    for _ in range(3):
        run.add(80)
    assert_restored(run.save(keep=1), run.ring)
    assert len(run.files()) == 10


def test_another_history_is_never_taken_for_this_one(run):
    """Two runs in one folder one after the other: same numbers, other content, no segment in common."""
    run.add(50)
    run.save()
    other = Run(run.root, seed=1)
    other.add(50)
    other.save()
    other.add(20)
    assert_restored(other.save(), other.ring)


def test_a_segment_that_has_disappeared_is_written_again(run):
    run.add(50)
    run.save()
    for path in (run.root / "segments").iterdir():
        path.unlink()
    run.add(1)
    assert_restored(run.save(), run.ring)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_segment_damages_the_checkpoints_that_need_it_and_no_other(run, damage):
    run.add(25)
    old = run.save(keep=3)
    run.add(25)
    run.save(keep=3)
    victim = next((run.root / "segments").glob("replay-*20-0*"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 16
    if damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(content if damage == "flip" else content[:-1])
    heard = []
    found = checkpoint.load_newest(run.root, heard.append)
    assert found is not None
    assert found.env_steps == 25
    assert victim.name in heard[0]
    checkpoint.load(old)


@pytest.mark.parametrize("name", ["../../outside.safetensors", "/etc/passwd", "replay-1-2-aa.safetensors"])
def test_a_forged_list_reaches_nothing_outside(run, name, tmp_path):
    import hashlib
    import json

    run.add(25)
    folder = run.save()
    (tmp_path / "outside.safetensors").write_bytes(next((run.root / "segments").iterdir()).read_bytes())
    meta = json.loads((folder / "meta.json").read_text())
    meta["rows"]["replay"]["parts"][0][0] = name
    (folder / "meta.json").write_text(json.dumps(meta))
    sums = json.loads((folder / "manifest.json").read_text())
    sums["meta.json"] = hashlib.sha256((folder / "meta.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(sums))
    with pytest.raises(FewstepError, match="is not the name of a segment"):
        checkpoint.load(folder)


def test_what_is_written_later_is_what_was_there_when_it_was_prepared(run):
    run.add(60)
    before = run.ring.read(0, 60)
    write = checkpoint.prepare(run.root, 60, {"replay": run.rows()}, {}, keep=2)
    run.add(40)  # up to the first one that is on hold
    rows = checkpoint.load(write()).groups["replay"]
    assert (rows.start, rows.stop) == (0, 60)
    assert all(np.array_equal(rows[name], before[name]) for name in before)


def test_the_ring_may_go_round_while_it_is_written_and_waits_only_for_rows_not_yet_read(run, monkeypatch):
    """The write stops at its third segment, once rows 50 to 59 are read, until the ring has to wait."""
    run.add(65)
    run.add(65)
    before = run.ring.read(30, 130)
    reached, go = threading.Event(), threading.Event()
    real = segments._write

    def write_slowly(root, group, start, stop, fields):
        if start == 50:
            reached.set()
            assert go.wait(30)
        return real(root, group, start, stop, fields)

    monkeypatch.setattr(segments, "_write", write_slowly)
    write = checkpoint.prepare(run.root, 130, {"replay": run.rows()}, {}, keep=2)
    with ThreadPoolExecutor(2) as pool:
        saving = pool.submit(write)
        assert reached.wait(30)
        for _ in range(30):
            run.add(1)  # over rows 30 to 59, which have been read
        adding = pool.submit(lambda: [run.add(1) for _ in range(150)])
        with pytest.raises(TimeoutError):
            adding.result(timeout=0.1)
        assert run.ring.added == 160
        go.set()
        adding.result(timeout=30)
        rows = checkpoint.load(saving.result(timeout=30)).groups["replay"]
    assert run.ring.added == 310
    assert (rows.start, rows.stop) == (30, 130)
    assert all(np.array_equal(rows[name], before[name]) for name in before)


def test_saves_under_a_ring_that_never_stands_still_are_what_was_there(run):
    """Saves in a thread while chunks of all sizes are added, up to the ring's own."""
    chance = np.random.default_rng(3)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(15):
            run.add(int(chance.integers(1, CAPACITY)))
            rows = run.rows()
            before = run.ring.read(rows.start, rows.stop)
            saving = pool.submit(checkpoint.prepare(run.root, rows.stop, {"replay": rows}, {}, keep=2))
            while not saving.done():
                run.add(int(chance.integers(1, 30)))
            saved = checkpoint.load(saving.result()).groups["replay"]
            assert all(np.array_equal(saved[name], before[name]) for name in before)


def test_a_write_that_fails_lets_the_ring_go_on(run, monkeypatch):
    run.add(100)
    write = checkpoint.prepare(run.root, 100, {"replay": run.rows()}, {}, keep=2)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments, "_write", full)
    with pytest.raises(FewstepError, match="No space left"):
        write()
    run.add(100)
    assert run.ring.added == 200
