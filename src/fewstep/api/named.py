"""A class for each algorithm, ``fewstep.SAC`` and its kin, and opening what any of them has saved."""

import functools
from pathlib import Path
from typing import Any

from fewstep.algos import registry
from fewstep.api.model import Env, Model
from fewstep.config import presets


class NamedModel(Model):
    """A model whose class says which algorithm it is, ``fewstep.SAC`` and its kin (``model_class``)."""

    algo: str

    def __init__(
        self,
        env: Env | None = None,
        /,
        *extra: Any,
        config: Any = None,
        seed: int = 0,
        preset: str = presets.DEFAULT,
        verbose: int = 0,
        **overrides: Any,
    ) -> None:
        super().__init__(
            self.algo, env, *extra, config=config, seed=seed, preset=preset, verbose=verbose, **overrides
        )


@functools.cache
def model_class(algo: str) -> type[NamedModel]:
    """The class of a registered algorithm, ``SAC`` for ``sac``."""
    doc = f"{registry.get(algo).title}. ``Model`` has the methods, ``fewstep presets {algo}`` the presets."
    name = registry.entries()[algo].model
    return type(name, (NamedModel,), {"algo": algo, "__doc__": doc, "__module__": "fewstep"})


def load(path: str | Path, env: Env | None = None, **unknown: Any) -> Model:
    """Open a saved model or a run directory of any algorithm (``Model.load``)."""
    return Model.load(path, env, **unknown)
