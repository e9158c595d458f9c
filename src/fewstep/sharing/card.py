"""The model card of a shared policy: what it is, how it did, with what it was made, and how to use it."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fewstep.analysis.numbers import number
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.runs.summary import Variant, cost, modes, results
from fewstep.analysis.statistics.aggregates import estimate, mean


def code(text: object) -> str:
    """Any text at all as code within a line of Markdown: no markup of it is read, and no line ends in it."""
    plain = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", str(text)).strip() or " "
    longest = max((len(found) for found in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    inner = f" {plain} " if longest else plain
    return f"{fence}{inner}{fence}".replace("|", r"\|")


def header(run: Run, best: str, licence: str | None) -> str:
    """The card's metadata, as YAML made of JSON values, which no name can break out of."""
    name = f"{run.algo} on {run.env}"
    metric = {"type": "mean_reward", "name": "mean return", "value": best, "verified": False}
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    result = {"task": task, "dataset": {"name": run.env, "type": run.env}, "metrics": [metric]}
    content: dict[str, Any] = {
        "library_name": "fewstep",
        "tags": ["fewstep", "reinforcement-learning", "continuous-control", run.algo, run.env],
        "model-index": [{"name": name, "results": [result]}],
    }
    if licence is not None:
        content["license"] = licence
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items())


def returns(runs: Sequence[Run], mode: str) -> str:
    """Last evaluation of each seed in one mode: their mean, its interval where there are several seeds."""
    last = np.array([found.final for run in runs for found in results(run) if found.actions == mode])
    found = estimate(mean, [last])
    if len(last) < 2:
        return f"{number(found.value)} (one seed: no interval)"
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}] ({len(last)} seeds)"


def text(variant: Variant, fetch: str, licence: str | None) -> str:
    """The card in Markdown; the variant's first run is the one whose policy is shared, and the command
    ``fetch`` makes it a directory ``policy``."""
    run = variant.runs[0]
    used = cost(run)
    preset = run.config.get("preset", "default")
    stated = "No licence is stated." if licence is None else f"Licence: {code(licence)}."
    minutes = f"{used.minutes:,.0f} minutes on {code(run.provenance.get('device', '?'))}. "
    versions = run.provenance.get("versions")
    listed = versions.items() if isinstance(versions, dict) else ()
    lines = [
        f"---\n{header(run, returns(variant.runs, modes(variant.runs)[0]), licence)}---",
        f"# {code(run.algo)} on {code(run.env)}",
        f"A policy trained with fewstep: algorithm {code(run.algo)}, preset {code(preset)}, "
        f"seed {code(run.seed)}, {used.env_steps:,.0f} environment steps, {used.updates:,.0f} updates. "
        f"{stated}",
        "![learning curve](curve.svg)",
        "## Returns",
        "Undiscounted, in the environment's own units, of the last evaluation. The interval is a 95 % "
        "bootstrap over seeds; few seeds make it too narrow.",
        _table(
            ("actions", "mean return"),
            [(code(mode), returns(variant.runs, mode)) for mode in modes(variant.runs)],
        ),
        _table(
            ("seed", "actions", "last", "mean of the last ten", "best (biased upwards)", "episodes"),
            [_cells(one, mode) for one in variant.runs for mode in modes([one])],
        ),
        "The policy is that of the first seed. `curves.csv` has every evaluation.",
        "## Use it",
        f"```\n{fetch}\nfewstep evaluate policy --episodes 10\nfewstep export policy --to onnx\n```",
        "## How it was made",
        "```\nfewstep train ALGO ENV --config config.toml --seed SEED\n```",
        f"with ALGO {code(run.algo)}, ENV {code(run.env)}, SEED {code(run.seed)}; "
        "`config.toml` holds every setting. "
        + (minutes if used.minutes > 0 else "")
        + f"Versions: {', '.join(f'{name} {code(version)}' for name, version in listed if version)}.",
    ]
    return "\n\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _cells(run: Run, mode: str) -> tuple[str, ...]:
    found = next(one for one in results(run) if one.actions == mode)
    numbers = (number(value) for value in (found.final, found.last, found.best))
    return (code(run.seed), code(mode), *numbers, str(found.episodes))
