"""What each figure or table of a paper asks, and what answers it at three scales: an experiment, or a
computation."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

from fewstep.algos import registry
from fewstep.config import parse_toml
from fewstep.errors import UsageError, unknown

PAPERS = {
    "smfp": "Stochastic MeanFlow Policies (arXiv 2605.21282)",
    "mfpo": "Mean Flow Policy Optimization (arXiv 2604.14698)",
}
Scale = Literal["tiny", "small", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Drawing = Literal["curves", "finals", "metrics", "costs", "densities", "goals", "evolution"]
KEYS = {
    "title",
    "claim",
    "comparable",
    "compute",
    "draw",
    "metrics",
    "set",
    "preset",
    "run",
    "published",
    "small",
    "full",
}
TINY_STEPS = 90
TINY = {
    "training.max_episode_steps": 30,
    "training.eval_every": 45,
    "training.eval_episodes": 2,
    "training.log_every": 30,
}
TINY_COMPUTED = {"seeds": 1, "updates": 20, "states": 20}
TINY_REPLAY = {"replay.learning_starts": 40, "replay.batch_size": 16}


@dataclass(frozen=True)
class Published:
    """A number of the paper, or of its authors.

    Attributes:
        label, env: of which run, on which task.
        value: mean return.
        source: where it stands.
    """

    label: str
    env: str
    value: float
    source: str


@dataclass(frozen=True)
class Item:
    """A figure or table.

    Attributes:
        paper, name: ``smfp`` and ``candidates``: what ``fewstep paper`` calls it.
        title: what it is about.
        claim: what the paper says it shows.
        comparable: what of our runs may be set beside the paper's, and what may not.
        draw: ``curves``, returns over steps; ``finals``, the score of each variant; ``metrics``, those of
            ``metrics`` over steps; ``costs``, scores over the time of an action; ``densities``, what was
            learned on ``toy/bandit``; ``goals``, where episodes end on ``toy/multigoal``; ``evolution``,
            actions at chosen states along training (``papers.evolution``); None if it is computed.
        compute: name in ``computed.COMPUTATIONS`` of what needs no runs; None if it is drawn from runs.
        metrics: names of logged metrics.
        published: numbers to set beside ours.
        tree: the rest of the file: runs, settings and scales.
    """

    paper: str
    name: str
    title: str
    claim: str
    comparable: str
    draw: Drawing | None
    compute: str | None
    metrics: tuple[str, ...]
    published: tuple[Published, ...]
    tree: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        """Names of its variants, in the order of the file; none if it is computed."""
        return [run["label"] for run in self.tree.get("run", ())]

    def amounts(self, scale: Scale) -> dict[str, int]:
        """How much of what is computed at ``scale``: ``seeds``, and ``updates`` or ``states``."""
        asked = self.tree["full" if scale == "full" else "small"]
        return {name: TINY_COMPUTED[name] if scale == "tiny" else asked[name] for name in asked}


def items(paper: str) -> list[Item]:
    """Every figure and table of a paper, in the order of their file names.

    Raises:
        UsageError: there is no such paper.
    """
    if paper not in PAPERS:
        raise unknown("paper", paper, PAPERS)
    folder = files("fewstep.papers") / paper
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda f: f.name)
    return [_item(paper, file.name.removesuffix(".toml"), file.read_text(encoding="utf-8")) for file in found]


def item(paper: str, name: str) -> Item:
    """One of them.

    Raises:
        UsageError: there is none of that name.
    """
    found = {each.name: each for each in items(paper)}
    if name not in found:
        raise unknown(f"figure or table of {paper}", name, found)
    return found[name]


def _item(paper: str, name: str, text: str) -> Item:
    tree = parse_toml(text, f"{paper}/{name}.toml")
    if strange := set(tree) - KEYS:
        raise UsageError(f"{paper}/{name}.toml: unknown key {min(strange)!r}")
    published = tuple(Published(**each) for each in tree.get("published", []))
    texts = (tree["title"], tree["claim"], tree["comparable"], tree.get("draw"), tree.get("compute"))
    return Item(paper, name, *texts, tuple(tree.get("metrics", ())), published, tree)


def experiment(found: Item, scale: Scale) -> dict[str, Any]:
    """The experiment file of an item at one scale, as parsed TOML (``experiments.spec.parse``).

    ``small`` and ``full`` are written in the item's file; ``tiny`` is its ``small`` on one task with one
    seed, the smallest networks and a hundred steps: it shows that everything works, and nothing else.
    """
    tree = found.tree
    place = tree["full" if scale == "full" else "small"]
    preset = tree.get("preset", {})
    runs = []
    for run in tree["run"]:
        chosen = run.get("preset", preset.get(run["algo"], "default"))
        if isinstance(chosen, Mapping):
            chosen = chosen["full" if scale == "full" else "small"]
        settings = {**tree.get("set", {}), **place.get("set", {}), **run.get("set", {})}
        if scale == "tiny":
            settings = _tiny(run["algo"], settings)
        runs.append({"algo": run["algo"], "label": run["label"], "preset": chosen, "set": settings})
    if scale == "tiny":
        return {"envs": place["envs"][:1], "seeds": [0], "steps": TINY_STEPS, "run": runs}
    return {"envs": place["envs"], "seeds": place["seeds"], "steps": place["steps"], "run": runs}


def _tiny(algo: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` at the smallest size: what an item varies stays, but for sizes."""
    record = registry.get(algo)
    replay = TINY_REPLAY if record.rollout is None else {}
    return {**settings, **record.tiny, **TINY, **replay}
