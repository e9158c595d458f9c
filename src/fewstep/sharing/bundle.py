"""A run as a small folder for others: policy, configuration, evaluations, versions, curve and model card.

Nothing in it can be executed, and ``SUMS`` holds the SHA-256 sum of every other file. What is unpacked is a
run directory that ``fewstep evaluate``, ``export`` and ``report`` take; it has no checkpoints to resume from.
"""

import csv
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fewstep.analysis.figures.curves import learning_curve
from fewstep.analysis.runs.reading import Run, read_run
from fewstep.analysis.runs.summary import group_runs
from fewstep.errors import FewstepError, UsageError
from fewstep.runs.files import read_json
from fewstep.runs.layout import RunDir
from fewstep.sharing import card

CARD, SUMS = "README.md", RunDir(Path()).sums.name
POLICY = ("policy/policy.json", "policy/policy.safetensors")
NEEDED = ("config.toml", "evaluations.jsonl", *POLICY)
NAMES = (CARD, *NEEDED, "provenance.json", "curves.csv", "curve.svg", SUMS)
"""All that a bundle may hold. Anything else in a repository is not even fetched."""

KEPT = ("created_at", "versions", "device", "git", "config_sha256")
"""What is shared of a run's provenance; its command and platform name a machine's folders and kernel."""

LARGEST = 2**30
"""Bytes of one file."""


def pack(paths: Sequence[Path], fetch: str, licence: str | None = None) -> dict[str, bytes]:
    """The files of a bundle by name: the policy of the first run, the evaluations of all.

    Args:
        paths: run directories of one task, algorithm and configuration that differ in their seeds; the first
            is the one whose policy is shared.
        fetch: the command that makes the bundle a directory `policy`, for the card.
        licence: an SPDX identifier for the card; None: the card says that none is stated.

    Raises:
        UsageError: one is no run, or they differ in more than their seeds.
        FewstepError: a file that a bundle needs is missing or damaged.
    """
    run = RunDir.open(paths[0])
    files: dict[str, bytes] = {}
    for name in NEEDED:
        path = run.path / name
        if not path.is_file() or path.is_symlink():
            raise FewstepError(
                f"{path} is missing; train until an evaluation and a checkpoint have been saved"
            )
        files[name] = path.read_bytes()
    runs = [_whole(path) for path in paths]
    groups = group_runs(runs)
    if len(groups) != 1 or len(groups[0].variants) != 1:
        raise UsageError("the runs differ in more than their seeds; share one configuration at a time")
    if len(groups[0].variants[0].seeds) < len(runs):
        raise UsageError("a seed is given twice; share every seed once")
    if not runs[0].evaluations:
        raise FewstepError(f"{run.path} has no evaluation; a policy is shared with its returns")
    told = {key: value for key, value in runs[0].provenance.items() if key in KEPT}
    files["provenance.json"] = (json.dumps(told, indent=1) + "\n").encode()
    files["curves.csv"] = curves_csv(runs).encode()
    files["curve.svg"] = f"{learning_curve(groups[0], 'curve')}\n".encode()
    files[CARD] = card.text(groups[0].variants[0], fetch, licence).encode()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    files[SUMS] = (json.dumps({"bundle": 1, "files": sums}, indent=1) + "\n").encode()
    return files


def _whole(path: Path) -> Run:
    run = read_run(path)
    if run.problems:
        raise FewstepError(f"{path}: {run.problems[0]}")
    return run


def curves_csv(runs: Sequence[Run]) -> str:
    """Every evaluation of every run in the long format that ``fewstep report --against`` reads."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("exp", "env", "seed", "metric", "step", "value"))
    for run in runs:
        for one in run.evaluations:
            exp = f"{run.algo} {one.actions}"
            table.writerow((exp, run.env, run.seed, "return", one.env_steps, repr(one.mean)))
    return text.getvalue()


def unpack(folder: Path, out: Path) -> RunDir:
    """Make the bundle in ``folder`` a run directory ``out``, whole or not at all.

    Raises:
        UsageError: ``out`` is in use or cannot be written.
        FewstepError: it is no bundle, or a file of it is missing, damaged or too large.
    """
    RunDir.refuse_existing(out)
    sums = _sums(folder)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", dir=out.parent))
    except OSError as error:
        raise UsageError(f"cannot write to {out.parent}: {error.strerror}; choose another --out") from error
    try:
        for name, wanted in sums.items():
            source, target = folder / name, made / name
            if not source.is_file() or source.stat().st_size > LARGEST:
                raise FewstepError(f"{name} is missing or too large; fetch it again")
            data = source.read_bytes()
            if hashlib.sha256(data).hexdigest() != wanted:
                raise FewstepError(
                    f"{name} is damaged: it does not have the sum that {SUMS} says; fetch it again"
                )
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        shutil.copyfile(folder / SUMS, made / SUMS)
        made.chmod(0o755)
        if out.exists():
            out.rmdir()  # empty, as ``refuse_existing`` has seen
        made.rename(out)
    except OSError as error:
        raise FewstepError(f"cannot write {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return RunDir.open(out)


def _sums(folder: Path) -> dict[str, str]:
    try:
        content = read_json(folder / SUMS)
        sums = {str(name): str(digest) for name, digest in content["files"].items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise FewstepError(f"no policy that fewstep shared: it has no sound {SUMS}") from error
    if content.get("bundle") != 1:
        raise FewstepError(f"{SUMS} has version {content.get('bundle')!r}; this fewstep reads version 1")
    if strange := sorted(set(sums) - set(NAMES)) or sorted(set(NEEDED) - set(sums)):
        raise FewstepError(
            f"no policy that fewstep shared: {SUMS} has no right list of files ({strange[0]!r})"
        )
    return sums
