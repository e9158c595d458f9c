"""A checkpoint is whole or absent, never loaded when damaged, never lost to the one that replaces it."""

import json
import os
import resource
import shutil

import numpy as np
import pytest

from fewstep.errors import FewstepError
from fewstep.runs import checkpoint

GROUPS = {
    "state": {
        "w": np.arange(12, dtype=np.float32).reshape(3, 4),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "slice": np.arange(10)[::3],
        "scalar": np.array(3, np.int32),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
    },
    "replay": {"reward": np.ones(5, np.float32)},
}
META = {"updates": 3, "rng": 2**120 + 1, "ratio": 0.1}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "checkpoints"


def save(root, steps, keep=2):
    return checkpoint.save(root, steps, GROUPS, META, keep)


def visible(root):
    return sorted(path.name for path in root.iterdir())


def test_arrays_and_values_come_back_exactly(root):
    loaded = checkpoint.load(save(root, 7))
    assert loaded.env_steps == 7
    assert loaded.meta["rng"] == META["rng"]
    for name, arrays in GROUPS.items():
        for key, array in arrays.items():
            got = loaded.groups[name][key]
            assert got.shape == array.shape, key
            assert got.dtype == array.dtype, key
            assert np.array_equal(got, array), key


def test_only_the_wanted_groups_are_read(root):
    loaded = checkpoint.load(save(root, 7), lambda group: group == "state")
    assert list(loaded.groups) == ["state"]


def test_the_newest_are_kept(root):
    for steps in (100, 20, 3000):
        save(root, steps)
    assert visible(root) == ["000000100", "000003000"]


def test_the_same_step_is_replaced(root):
    save(root, 5)
    checkpoint.save(root, 5, {"state": {"w": np.zeros(1)}}, {}, keep=2)
    assert list(checkpoint.load(root / "000000005").groups) == ["state"]
    assert visible(root) == ["000000005"]


@pytest.mark.parametrize("name", ["state.safetensors", "replay.safetensors", "meta.json"])
def test_one_flipped_bit_is_found_and_the_one_before_is_used(root, name):
    save(root, 1)
    newest = save(root, 2)
    content = bytearray((newest / name).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / name).write_bytes(content)
    with pytest.raises(FewstepError, match=f"{name} does not match its checksum"):
        checkpoint.load(newest)
    heard = []
    found = checkpoint.load_newest(root, heard.append)
    assert found is not None
    assert found.env_steps == 1
    assert len(heard) == 1
    assert "000000002 is damaged" in heard[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "state.safetensors").unlink(),
        lambda folder: os.truncate(folder / "state.safetensors", 20),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: [path.unlink() for path in folder.iterdir()],
    ],
)
def test_every_other_damage_is_one_line_too(root, damage):
    save(root, 1)
    damage(save(root, 2))
    with pytest.raises(FewstepError) as error:
        checkpoint.load(root / "000000002")
    assert "\n" not in str(error.value)
    found = checkpoint.load_newest(root, lambda text: None)
    assert found is not None
    assert found.env_steps == 1


def test_when_all_are_damaged_it_says_so_and_none_at_all_is_none(root):
    assert checkpoint.load_newest(root, print) is None
    (save(root, 1) / "meta.json").unlink()
    with pytest.raises(FewstepError, match=r"every checkpoint in .* is damaged"):
        checkpoint.load_newest(root, lambda text: None)


def test_another_format_is_named(root, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 4)
    folder = save(root, 1)
    monkeypatch.undo()
    with pytest.raises(FewstepError, match="has format 4; this fewstep reads format 3"):
        checkpoint.load(folder)


def test_a_damaged_newest_does_not_cost_the_next_one_saved(root):
    save(root, 100)
    (save(root, 200) / "meta.json").unlink()
    checkpoint.set_aside_newer(root, 100)
    save(root, 150, keep=1)
    assert visible(root) == ["000000150", "damaged-000000200"]


def test_what_interrupted_saves_left_is_swept_or_put_back(root):
    save(root, 1)
    (root / ".writing-000000002").mkdir()
    os.rename(root / "000000001", root / ".replaced-000000001")  # killed between the two renames
    save(root, 3)
    assert visible(root) == ["000000001", "000000003"]
    checkpoint.load(root / "000000001")


def test_a_full_disk_leaves_the_older_one_intact_and_saving_works_again(root):
    save(root, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {"state": {"w": np.zeros(1_000_000, np.float32)}}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(FewstepError) as error:
            checkpoint.save(root, 2, big, {}, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "older checkpoints are intact" in str(error.value)
    assert "\n" not in str(error.value)
    assert visible(root) == ["000000001"]
    checkpoint.load(root / "000000001")
    checkpoint.save(root, 2, big, {}, keep=2)
    assert visible(root) == ["000000001", "000000002"]


def test_a_crash_at_any_system_call_leaves_a_loadable_newest(root, monkeypatch):
    """Stop a save before its n-th rename or flush, for every n, as a power cut would."""
    save(root, 1)

    class PowerCut(BaseException):
        pass

    calls = 0
    for n in range(100):
        left = n

        def stop_before(function):
            def called(*arguments, **options):
                nonlocal left
                if left == 0:
                    raise PowerCut
                left -= 1
                return function(*arguments, **options)

            return called

        with monkeypatch.context() as patched:
            for name in ("rename", "replace", "fsync"):
                patched.setattr(os, name, stop_before(getattr(os, name)))
            patched.setattr(shutil, "rmtree", stop_before(shutil.rmtree))
            try:
                save(root, 2)
            except PowerCut:
                calls += 1
            else:
                break
        found = checkpoint.load_newest(root, lambda text: pytest.fail(text))
        assert found is not None
        assert found.env_steps in (1, 2)
    assert calls >= 8
    assert visible(root) == ["000000001", "000000002"]


def test_the_manifest_covers_every_file(root):
    folder = save(root, 1)
    listed = set(json.loads((folder / "manifest.json").read_text()))
    assert listed == {path.name for path in folder.iterdir()} - {"manifest.json"}


def test_the_newest_has_the_most_steps_however_many_digits_they_have(root):
    for steps in (999_000_000, 1_000_000_000, 1_001_000_000):
        save(root, steps)
    (root / "000000100 (copy)").mkdir()
    assert checkpoint.newest_step(root) == 1_001_000_000
    assert checkpoint.load_newest(root, warn=pytest.fail).env_steps == 1_001_000_000
    assert visible(root) == ["000000100 (copy)", "1000000000", "1001000000"]
