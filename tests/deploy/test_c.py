"""The C artefact as C: sanitizers, re-entrancy, aliasing, noise from inside, odd sizes."""

import ctypes
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.c import operations as c_pieces
from fewstep.deploy.formats.c.source import literal
from fewstep.deploy.formats.numpy.run import NumpyPolicy
from fewstep.deploy.program.buffers import plan
from fewstep.errors import UsageError
from tests.deploy.helpers import (
    SPEC,
    STRICT,
    TINY,
    act_c,
    compiled_c,
    exact,
    exported,
    needs_gcc,
    observations,
)
from tests.few import slow

pytestmark = needs_gcc


def _loop(op):
    return c_pieces.elementwise(op, 256)


MAIN = """
#include <stdio.h>
#include "policy.h"
int main(void)
{
    float obs[FEWSTEP_OBS_SIZE], noise[FEWSTEP_NOISE_SIZE], action[FEWSTEP_ACT_SIZE];
    while (fread(obs, sizeof obs, 1, stdin) == 1 && fread(noise, sizeof noise, 1, stdin) == 1) {
        fewstep_act(obs, noise, action);
        fwrite(action, sizeof action, 1, stdout);
    }
    return 0;
}
"""


@pytest.mark.parametrize(
    ("algo", "mode"), [("crossq", "sample"), ("mfpo", "best-of-3"), ("smfp", "best-of-3")]
)
def test_sanitizers_find_nothing(algo, mode, tmp_path):
    artefact, obs = exported(algo, TINY[algo], mode=mode), observations(SPEC.obs_size)
    formats.write(artefact, "c", tmp_path / "policy.c")
    (tmp_path / "main.c").write_text(MAIN)
    flags = [*STRICT, "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    sources = [str(tmp_path / name) for name in ("main.c", "policy.c")]
    done = subprocess.run(["gcc", *flags, *sources, "-o", str(tmp_path / "main"), "-lm"], capture_output=True)
    assert done.returncode == 0, done.stderr
    noise = np.random.default_rng(0).normal(size=(1000, artefact.noise_size)).astype(np.float32)
    obs[999] = np.nan  # comes out as NaN, without undefined behaviour on the way
    done = subprocess.run(
        [str(tmp_path / "main")], input=np.hstack([obs, noise]).tobytes(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    actions = np.frombuffer(done.stdout, np.float32).reshape(1000, -1)
    assert np.isnan(actions[999]).all()
    truth, clear = exact(artefact.program, obs[50:999], noise[50:999])
    assert np.abs(actions[50:999] - truth)[clear].max() <= 1e-5


def test_nothing_is_written_but_the_action(tmp_path):
    """No writable memory of its own in the object file, and the action may lie where the observation does."""
    artefact, obs = exported("sac", TINY["sac"]), observations(SPEC.obs_size, 100)
    formats.write(artefact, "c", tmp_path / "policy")
    source, made = str(tmp_path / "policy.c"), str(tmp_path / "policy.o")
    subprocess.run(["gcc", *STRICT, "-c", source, "-o", made], check=True)
    symbols = subprocess.run(["nm", made], capture_output=True, text=True, check=True).stdout
    kinds = {line.split()[-2]: line.split()[-1] for line in symbols.splitlines()}
    assert not {"b", "B", "d", "D", "C"} & set(kinds), symbols
    assert "malloc" not in symbols
    library = compiled_c(tmp_path, "policy")
    noise = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    want = act_c(library, obs, noise, 3)
    shared = obs[7].copy()
    at = ctypes.c_void_p(shared.ctypes.data)
    library.fewstep_act(at, ctypes.c_void_p(np.ascontiguousarray(noise[7]).ctypes.data), at)
    np.testing.assert_array_equal(shared[:3], want[7])


def test_noise_from_inside(tmp_path):
    """The documented generator: xoshiro128++ seeded by splitmix64, then Box-Muller, in Python by hand."""
    artefact = exported("sac", TINY["sac"], noise="inside")
    formats.write(artefact, "c", tmp_path / "policy")
    library = compiled_c(tmp_path, "policy")
    state, obs = np.zeros(4, np.uint32), observations(SPEC.obs_size, 60)
    at = ctypes.c_void_p(state.ctypes.data)
    library.fewstep_seed(at, ctypes.c_uint64(12345))
    words = _xoshiro(12345)
    for o in obs[50:]:
        got = np.zeros(3, np.float32)
        library.fewstep_act_seeded(at, ctypes.c_void_p(o.ctypes.data), ctypes.c_void_p(got.ctypes.data))
        pairs = [((next(words) >> 8), (next(words) >> 8)) for _ in range(2)]
        noise = [
            np.sqrt(-2 * np.log((u + 1) / 2**24)) * trig(2 * np.pi * v / 2**24)
            for u, v in pairs
            for trig in (np.cos, np.sin)
        ]
        want = act_c(library, o[None], np.array([noise[:3]], np.float32), 3)[0]
        np.testing.assert_allclose(got, want, atol=1e-5)
    noise = np.zeros(3, np.float32)
    library.fewstep_seed(at, ctypes.c_uint64(12345))
    library.fewstep_noise(at, ctypes.c_void_p(noise.ctypes.data))
    first = _xoshiro(12345)
    u, v = next(first) >> 8, next(first) >> 8
    assert abs(noise[0] - np.sqrt(-2 * np.log((u + 1) / 2**24)) * np.cos(2 * np.pi * v / 2**24)) < 1e-5
    assert (
        "fewstep_act_seeded" not in formats.get("c").files(exported("sac", TINY["sac"]), "x")[".h"].decode()
    )


def _xoshiro(seed):
    mask, s, z = 2**32 - 1, [], seed
    for _ in range(2):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        y = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        y = ((y ^ (y >> 27)) * 0x94D049BB133111EB) % 2**64
        y ^= y >> 31
        s += [y & mask, y >> 32]
    while True:
        total = (s[0] + s[3]) & mask
        yield (((total << 7) | (total >> 25)) + s[0]) & mask
        t = (s[1] << 9) & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = ((s[3] << 11) | (s[3] >> 21)) & mask


@pytest.mark.parametrize("hidden", ["[3,5]", *slow("[1]", "[9,17]")])
def test_odd_sizes(hidden, tmp_path):
    artefact = exported("mfpo", (*TINY["mfpo"], f"actor.hidden={hidden}"))
    obs = observations(SPEC.obs_size, 100)
    noise = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    formats.write(artefact, "c", tmp_path / "policy")
    actions = act_c(compiled_c(tmp_path, "policy"), obs, noise, 3)
    np.testing.assert_allclose(actions[50:], NumpyPolicy(artefact).act(obs, noise)[50:], atol=1e-5)


LOOPS = {
    "products": (c_pieces.affine(17, 256), 2),  # four rows at a time, and the last one
    "activations": ("".join(map(_loop, ("gelu", "silu", "tanh", "exp", "relu"))), 5),
    "normalisation": (c_pieces.mean("mean", 256) + c_pieces.mean("mean_square", 256), 2),
}


@pytest.mark.parametrize("name", LOOPS)
def test_gcc_vectorises_the_loops_at_o2(name, tmp_path):
    version = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True).stdout
    if int(version.split(".")[0]) < 12:
        pytest.skip("gcc vectorises at -O2 from version 12 on")
    loops, expected = LOOPS[name]
    scalars = "".join(c_pieces.SCALARS.values())
    used = re.sub(r"static (void|float) (\w+_\d+)", r"\1 \2", loops)
    (tmp_path / "loops.c").write_text(f"#include <stdint.h>\n{scalars}{used}")
    command = ["gcc", "-std=c99", "-O2", "-fopt-info-vec", "-c", "loops.c", "-o", "loops.o"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(set(re.findall(r"loops\.c:(\d+):\d+: optimized: loop vectorized", done.stderr))) >= expected


def test_the_header_names_the_observation_whatever_it_is_called(tmp_path):
    artefact = exported("sac", TINY["sac"])
    names = ("observation['arm']", 'a "quoted" name', "back\\\\slash", "winkel ü", "what??/")
    artefact = replace(artefact, description=replace(artefact.description, obs_names=names))
    formats.write(artefact, "c", tmp_path / "policy")
    (tmp_path / "main.c").write_text(NAMES)
    flags = [*STRICT, "-Wno-trigraphs"]
    subprocess.run(["gcc", *flags, "main.c", "policy.c", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "a.out"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*names, artefact.description.weights]


NAMES = """
#include <stdio.h>
#include "policy.h"
int main(void)
{
    static const char *names[FEWSTEP_OBS_SIZE] = FEWSTEP_OBS_NAMES;
    for (int i = 0; i < FEWSTEP_OBS_SIZE; i++)
        puts(names[i]);
    puts(FEWSTEP_WEIGHTS_SHA256);
    return 0;
}
"""


TWO = """
#include <stdio.h>
#include "left.h"
#include "right.h"
int main(void)
{
    float obs[LEFT_OBS_SIZE] = {0.5f}, noise[RIGHT_NOISE_SIZE] = {0.1f}, action[RIGHT_ACT_SIZE];
    left_rng rng;
    left_seed(&rng, 7);
    left_act_seeded(&rng, obs, action);
    printf("%.9g %.9g\\n", action[0], action[1]);
    left_act(obs, noise, action);
    printf("%.9g %.9g\\n", action[0], action[1]);
    right_act(obs, noise, action);
    printf("%.9g %.9g\\n", action[0], action[1]);
    fewstep_act(obs, noise, action);
    printf("%.9g %.9g\\n", action[0], action[1]);
    return 0;
}
"""


@pytest.mark.parametrize("together", ["linked", "included"])
def test_several_policies_in_one_program(together, tmp_path):
    """Linked; and as one translation unit, where names that are not exported would meet too."""
    left = exported("sac", TINY["sac"], noise="inside")
    left = replace(left, description=replace(left.description, obs_names=("fewstep_act", *"abcd")))
    right = exported("smfp", TINY["smfp"], mode="best-of-3", noise="inside")
    formats.write(left, "c", tmp_path / "left", prefix="left")
    formats.write(right, "c", tmp_path / "right", prefix="right")
    formats.write(left, "c", tmp_path / "plain")
    assert '"fewstep_act"' in (tmp_path / "left.h").read_text()
    main = TWO.replace('#include "right.h"', '#include "right.h"\n#include "plain.h"')
    (tmp_path / "main.c").write_text(main)
    sources = ["main.c", "left.c", "right.c", "plain.c"]
    if together == "included":
        (tmp_path / "all.c").write_text("".join(f'#include "{name}"\n' for name in sources))
        sources = ["all.c"]
    subprocess.run(["gcc", *STRICT, *sources, "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "a.out"], capture_output=True, text=True, check=True)
    _, ours, theirs, plain = ([float(word) for word in line.split()] for line in done.stdout.splitlines())
    obs = np.zeros(5, np.float32)
    obs[0], noise = 0.5, np.zeros(right.noise_size, np.float32)
    noise[0] = 0.1
    np.testing.assert_allclose(ours, NumpyPolicy(left).act(obs, noise[:3])[:2], atol=1e-5)
    np.testing.assert_allclose(theirs, NumpyPolicy(right).act(obs, noise)[:2], atol=1e-5)
    assert plain == ours
    for line in (tmp_path / "left.c").read_text().splitlines():
        if line.startswith(("static ", "void ")) and "(" in line:
            assert re.search(r"\bleft_\w+\(", line), line
        elif line.startswith("static "):
            assert re.search(r"\bleft_c\d+\[", line), line


def test_the_prefix_must_be_a_name_of_c():
    artefact = exported("sac", TINY["sac"])
    for wrong in ("", "2legs", "_left", "my-robot", "a b", "bein_ü", "double", "a/*", "a\n"):
        with pytest.raises(UsageError, match="--prefix must be a C identifier"):
            formats.get("c", wrong)
    with pytest.raises(UsageError, match="--prefix is for --to c"):
        formats.get("numpy", "left")
    assert formats.get("c", "fewstep").files(artefact, "x") == formats.get("c").files(artefact, "x")


def test_many_steps_need_no_more_stack():
    few, many = (exported("mfpo", (*TINY["mfpo"], f"actor.steps={n}")).program for n in (2, 8))
    assert sum(plan(many).sizes) <= sum(plan(few).sizes) + 16


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.5, 1e-45, 3.4028235e38, 0.1, 1.1754944e-38])
def test_literals_are_exact(value):
    value = float(np.float32(value))
    assert float.fromhex(literal(value).removesuffix("f")) == value


def test_the_example_of_the_page(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (tmp_path / "main.c").write_text(page.split("```c\n")[1].split("```")[0])
    formats.write(exported("smfp", TINY["smfp"], noise="inside"), "c", tmp_path / "cheetah.c")
    subprocess.run(["gcc", *STRICT, "main.c", "cheetah.c", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "a.out"], capture_output=True, text=True, check=True)
    actions = [float(word) for word in done.stdout.split()]
    assert len(actions) == 3
    assert all(-1.0 <= a <= 1.0 for a in actions)
