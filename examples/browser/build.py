"""A page that runs an exported policy for Pendulum-v1 without a network.

    fewstep train smfp Pendulum-v1 --preset small --steps 10_000 --out pendulum
    fewstep export pendulum --to c --noise inside --out policy.c
    python examples/browser/build.py policy.c pendulum.html

It needs ``emcc`` (Debian: ``apt install emscripten``).
"""

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EXPORTED = ("obs_buffer", "action_buffer", "obs_size", "act_size", "seed", "act")


def wasm(source: Path) -> bytes:
    """The policy of a C file as one WebAssembly module that imports nothing it needs."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (source.name, f"{source.stem}.h"):
            shutil.copy(source.parent / name, folder)
        glue = (HERE / "glue.c").read_text().replace("policy.h", f"{source.stem}.h")
        (Path(folder) / "glue.c").write_text(glue)
        names = ",".join(f"_{name}" for name in EXPORTED)
        words = ["emcc", "-O2", "-std=c99", source.name, "glue.c", "--no-entry", "-s", "STANDALONE_WASM=1"]
        subprocess.run(
            [*words, "-s", f"EXPORTED_FUNCTIONS={names}", "-o", "out.wasm"], cwd=folder, check=True
        )
        return (Path(folder) / "out.wasm").read_bytes()


def main() -> None:
    """Build the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("policy", type=Path, help="C file of `fewstep export --to c --noise inside`")
    parser.add_argument("page", type=Path, help="HTML file to write")
    arguments = parser.parse_args()
    header = arguments.policy.with_suffix(".h")
    if not (arguments.policy.is_file() and header.is_file()):
        sys.exit(f"{arguments.policy} or {header} is missing; `fewstep export RUN --to c` writes both")
    if "fewstep_act_seeded" not in header.read_text() or "OBS_SIZE 3\n" not in header.read_text():
        sys.exit("this page takes a policy for Pendulum-v1, exported with --noise inside")
    if shutil.which("emcc") is None:
        sys.exit("emcc is not installed (Debian: apt install emscripten)")
    page = (HERE / "page.html").read_text()
    arguments.page.write_text(page.replace("@WASM@", base64.b64encode(wasm(arguments.policy)).decode()))
    print(arguments.page)


if __name__ == "__main__":
    main()
