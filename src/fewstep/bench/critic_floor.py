"""Operations of the critics' part of an update, the same for every algorithm that has them (``floor``)."""

from fewstep.bench.gemms import Perceptron, Residual
from fewstep.critics.ensemble import CriticConfig
from fewstep.nets.unit_nets import EXPANSION
from fewstep.types import Spec


def critic_network(cfg: CriticConfig, spec: Spec) -> Perceptron:
    """The sizes of one critic."""
    if cfg.trunk == "flash":
        width, blocks = cfg.hidden[0], len(cfg.hidden)
        sizes = (width, *((EXPANSION * width, width) * blocks))
        return Residual(spec.obs_size, spec.act_size, sizes, cfg.made_head.outputs)
    return Perceptron(spec.obs_size, spec.act_size, cfg.hidden, cfg.made_head.outputs)


def temporal_difference(cfg: CriticConfig, spec: Spec, batch: int, actions: int = 1) -> int:
    """Operations of all critics: values of ``actions`` of each successor, then one regression of each."""
    net = critic_network(cfg, spec)
    if cfg.sees_batches:
        # One forward of all; the loss sees the values of one part, and through the statistics all learn.
        rows = batch * (1 + actions)
        joint = net.forward(rows, rows) + net.weight_gradient(rows, rows)
        head = 2 * batch * actions * cfg.hidden[-1] * cfg.made_head.outputs
        target = net.forward(rows, rows) if cfg.target == "polyak" else 0
        return cfg.ensemble * (joint + target + net.input_gradient(rows) - 2 * head)
    return cfg.ensemble * (net.forward(batch, batch * actions) + net.training(batch, batch))
