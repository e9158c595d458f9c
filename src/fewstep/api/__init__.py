"""The Python face, with the habits of Stable-Baselines3: construct, ``learn``, ``predict``, ``save``,
``load``."""

from fewstep.api.callback import Callback, Callbacks
from fewstep.api.model import Env, Model
from fewstep.api.named import NamedModel, load, model_class

__all__ = ["Callback", "Callbacks", "Env", "Model", "NamedModel", "load", "model_class"]
