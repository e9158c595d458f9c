"""Pack the policies of ``fewstep zoo`` from the runs of ``benchmarks/zoo.toml``.

    fewstep experiment benchmarks/zoo.toml --out runs/zoo
    python -m benchmarks.zoo runs/zoo

Every algorithm must be there on both tasks, finished, and all of them together below 10 MB.
"""

import argparse
import hashlib
from pathlib import Path

from fewstep.algos import registry
from fewstep.analysis.runs.reading import read_run
from fewstep.analysis.runs.summary import results
from fewstep.errors import UsageError
from fewstep.experiments import spec
from fewstep.sharing import bundle, zoo

HERE = Path(__file__).parent
MOST = 10_000_000


def packed(path: Path) -> tuple[str, tuple[zoo.Entry, bytes]]:
    run = read_run(path)
    name = zoo.name_of(run.algo, run.env)
    data = zoo.zipped(bundle.pack([path], f"fewstep zoo get {name} --out policy", "MIT"))
    mode = run.evaluations[0].actions  # the algorithm's own
    found = next(one for one in results(run) if one.actions == mode)
    steps = run.evaluations[-1].env_steps
    sha256 = hashlib.sha256(data).hexdigest()
    entry = zoo.Entry(
        run.algo, run.env, steps, mode, found.episodes, round(found.final, 2), len(data), sha256
    )
    return name, (entry, data)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--to", type=Path, default=HERE.parent / "src/fewstep/sharing/policies")
    arguments = parser.parse_args()
    found = dict(packed(path.parent) for path in sorted(arguments.runs.glob("*/*/seed-*/config.toml")))
    wanted = spec.read(HERE / "zoo.toml")
    envs = {env for entry in wanted.entries for env in entry.envs}
    if missing := {zoo.name_of(algo, env) for algo in registry.BUILT_IN for env in envs} - set(found):
        raise UsageError(f"{len(missing)} policies are missing, among them {min(missing)}")
    if (size := sum(entry.size for entry, _ in found.values())) > MOST:
        raise UsageError(f"{size} bytes in all, more than {MOST}")
    zoo.write(found, arguments.to)
    print(f"{len(found)} policies, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
