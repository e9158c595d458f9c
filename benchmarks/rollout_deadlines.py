"""Deadlines of a control loop: exported policies at 50, 200 and 1000 actions per second.

    python -m benchmarks.rollout_deadlines

``fewstep rollout`` on HalfCheetah-v4, whose step in the simulator belongs to every tick, with policies of
preset ``small`` (untrained: the time of an action does not depend on the weights), as single samples and as
the papers evaluate them. A Python process on an ordinary kernel with its ordinary scheduler.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path

from benchmarks import record
from fewstep import Model
from fewstep.cli import main as fewstep

ENV = "HalfCheetah-v4"
RATES = (50, 200, 1000)
ROWS = (("smfp", "sample"), ("mfpo", "sample"), ("sac", "sample"), ("smfp", "native"), ("mfpo", "native"))


def measure(policy: Path, rate: int, seconds: float) -> dict[str, object]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
        words = ["--rate", str(rate), "--seconds", str(seconds), "--json"]
        assert fewstep(["rollout", str(policy), ENV, *words]) == 0
    row = json.loads(told.getvalue())
    times = {
        f"{name} {share} ms": round(value, 3)
        for name, shares in row["milliseconds"].items()
        for share, value in shares.items()
    }
    return {"ticks": row["ticks"], "misses": row["misses"], **times}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each loop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for algo, actions in ROWS:
            model = Model(algo, ENV, preset="small")
            exported = model.export(
                Path(folder) / f"{algo}-{actions}", "onnx", actions=actions, noise="inside"
            )
            model.close()
            for rate in RATES:
                found = measure(exported[0], rate, arguments.seconds)
                record.update("rollout_deadlines", f"{algo} small {actions} onnx {rate} Hz", found)


if __name__ == "__main__":
    main()
