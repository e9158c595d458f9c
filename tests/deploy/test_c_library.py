"""``--to c-library``: built by CMake, found by CMake and by pkg-config, and its example run."""

import json
import re
import shutil
import subprocess

import pytest

from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.c import library
from fewstep.errors import UsageError
from tests.deploy.helpers import STRICT, TINY, exported, needs_gcc

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
USER = """\
cmake_minimum_required(VERSION 3.16)
project(robot LANGUAGES C)
find_package(arm_v2 REQUIRED)
add_executable(robot {example})
target_link_libraries(robot PRIVATE arm_v2::arm_v2)
"""


def call(*words, **more):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(folder, noise="inside", mode="sample", prefix=None):
    artefact = exported("sac", TINY["sac"], noise=noise, mode=mode)
    return formats.write(artefact, "c-library", folder, prefix)


@needs_gcc
@pytest.mark.parametrize(
    ("noise", "mode", "prefix"),
    [("inside", "sample", None), ("input", "sample", "arm"), ("input", "mode", None)],
)
def test_the_example_runs(tmp_path, noise, mode, prefix):
    files = written(tmp_path / "arm", noise, mode, prefix)
    assert [file.name for file in files] == [
        "arm.c",
        "arm.h",
        "CMakeLists.txt",
        "arm.pc.in",
        "example.c",
        "arm.c.contract.json",
    ]
    call("gcc", *STRICT, "-o", "example", "example.c", "arm.c", "-lm", cwd=tmp_path / "arm")
    told = call("./example", cwd=tmp_path / "arm")
    assert told.startswith("5 numbers, from observation[0] to observation[4]\n")
    actions = re.findall(r"action\[\d\] = (.*), of \[-1, 1\]", told)
    assert len(actions) == 3
    assert all(-1.0 <= float(action) <= 1.0 for action in actions)
    sums = json.loads(files[-1].read_text())["files"]
    assert set(sums) == {file.name for file in files[:-1]}


@needs_gcc
@needs_cmake
def test_cmake_builds_and_installs_it_and_others_find_it(tmp_path):
    source, place = tmp_path / "arm-v2", tmp_path / "place"
    written(source)
    call("cmake", "-S", source, "-B", tmp_path / "build", f"-DCMAKE_INSTALL_PREFIX={place}")
    call("cmake", "--build", tmp_path / "build")
    call("cmake", "--build", tmp_path / "build", "--target", "arm_v2_example")
    told = call(tmp_path / "build" / "arm_v2_example")
    call("cmake", "--install", tmp_path / "build")
    user = tmp_path / "user"
    user.mkdir()
    (user / "CMakeLists.txt").write_text(USER.format(example=source / "example.c"))
    call("cmake", "-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={place}")
    call("cmake", "--build", user / "build")
    assert call(user / "build" / "robot") == told
    if shutil.which("pkg-config"):
        (found,) = place.rglob("arm_v2.pc")
        flags = call("pkg-config", "--cflags", "--libs", "arm_v2", env={"PKG_CONFIG_PATH": str(found.parent)})
        call("gcc", "-o", tmp_path / "plain", source / "example.c", *flags.split())
        assert call(tmp_path / "plain") == told


def test_its_name_is_the_folders_as_an_identifier(tmp_path, monkeypatch):
    names = [library.identifier(name) for name in ("arm-v2", "2nd", "my robot.é")]
    assert names == ["arm_v2", "policy_2nd", "my_robot__"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="taken is not a folder"):
        written(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == ""
