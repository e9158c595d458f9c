"""Microseconds per action of one observation: jax, onnxruntime, numpy, C.

    python -m benchmarks.act_speed                  # every row
    python -m benchmarks.act_speed --only smfp

HalfCheetah's sizes, preset ``small``. ``predict`` is ``Model.predict`` as a user calls it, ``jax`` the jitted
call inside it with the action back on the host, ``onnxruntime`` the bare ``session.run`` on one thread with
the noise given, ``onnx`` the same through ``fewstep.deploy``, which checks its inputs and draws the noise, as
``numpy`` does. C runs in a loop of its own, compiled with the flags that the row names, and draws its noise.

Timings are taken in very many short chunks, and the fastest is what counts: on a machine that does other
things a chunk is either undisturbed or tells of those. The median is recorded beside it.
"""

import argparse
from statistics import median

from benchmarks import record
from fewstep import Model
from fewstep.bench import acting

ENV = "HalfCheetah-v4"
ROWS = (("smfp", "sample"), ("mfpo", "sample"), ("sac", "sample"), ("smfp", "native"), ("mfpo", "native"))


def measure(algo: str, actions: str, only: str, chunks: int, calls: int) -> None:
    model = Model(algo, ENV, preset="small")
    for runtime, times in acting.measure(model, actions, chunks, calls, (only,)).items():
        save(algo, actions, runtime, times)
    model.close()


def save(algo: str, actions: str, runtime: str, times: list[float]) -> None:
    result = {"median_us": round(median(times), 2), "min_us": round(min(times), 2)}
    what = "" if actions == "sample" else f"{actions} "
    record.update("act_speed", f"{algo} small {ENV} {what}{runtime}", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only algorithms whose name contains this text")
    parser.add_argument("--runtime", default="", help="run only runtimes whose name contains this text")
    parser.add_argument("--chunks", type=int, default=8000)
    parser.add_argument("--calls", type=int, default=1, help="actions per chunk (five times as many in C)")
    arguments = parser.parse_args()
    for algo, actions in ROWS:
        if arguments.only in algo:
            measure(algo, actions, arguments.runtime, arguments.chunks, arguments.calls)


if __name__ == "__main__":
    main()
