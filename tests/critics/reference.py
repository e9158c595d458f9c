"""One step of the shared critic by hand: outputs of the networks in, targets and losses in numpy, float64."""

import jax
import numpy as np
from scipy import stats

FLOOR, WIDTH = 0.1, 3.0
"""Constants of the DSAC-T authors' code."""


def outputs(critics, batch, next_action):
    """Every member's outputs at (s, a), and its (target) network's at (s', a'): ``[members, B, outputs]``."""
    nets = critics.online.params
    if any(critics.stats):
        rows = np.concatenate(
            [np.hstack([batch.obs, batch.action]), np.hstack([batch.next_obs, next_action])]
        )
        count = len(batch.reward)
        now = [net.train(seen, rows)[0][:count] for net, seen in zip(nets, critics.stats, strict=True)]
        ahead = [
            net.train(seen, rows)[0][count:]
            for net, seen in zip(critics.target or nets, critics.stats, strict=True)
        ]
    else:
        now = [jax.vmap(net)(batch.obs, batch.action) for net in nets]
        ahead = [jax.vmap(net)(batch.next_obs, next_action) for net in critics.target or nets]
    return np.asarray(now, np.float64), np.asarray(ahead, np.float64)


def expected(cfg, discount, critics, batch, next_action, bonus):
    """The metrics of ``critics.fit``, and what every row regresses on (its mean)."""
    now, ahead = outputs(critics, batch, next_action)
    reward = cfg.reward_scale * np.asarray(batch.reward, np.float64)
    alive = 1.0 - np.asarray(batch.terminated, np.float64)
    bonus = np.zeros(len(reward)) if bonus is None else np.asarray(bonus, np.float64)
    found = {"scalar": _scalar, "categorical": _categorical, "gaussian": _gaussian}[cfg.head](
        cfg, critics, now, ahead, reward, discount * alive, bonus
    )
    value, q, target, more = found
    metrics = {"critic/loss": value, "critic/q_mean": q.mean(), "critic/q_std": target.std()} | more
    return metrics, target


def _scalar(cfg, critics, now, ahead, reward, gamma, bonus):
    value = ahead[..., 0].min(0) if cfg.reduce == "min" else ahead[..., 0].mean(0)
    target = reward + gamma * (value + bonus)
    return 0.5 * ((now[..., 0] - target) ** 2).mean(1).sum(), now[..., 0], target, {}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def projected(mass, values, z):
    """The loop of the C51 paper (Bellemare et al. 2017, algorithm 1)."""
    m, spacing = np.zeros(len(z)), z[1] - z[0]
    for p, value in zip(mass, values, strict=True):
        b = min((np.clip(value, z[0], z[-1]) - z[0]) / spacing, len(z) - 1)
        low, high = int(np.floor(b)), int(np.ceil(b))
        if low == high:
            m[low] += p
        else:
            m[low] += p * (high - b)
            m[high] += p * (b - low)
    return m


def _categorical(cfg, critics, now, ahead, reward, gamma, bonus):
    z = np.linspace(cfg.v_min, cfg.v_max, cfg.atoms)
    mass, targets, lost = softmax(ahead), [], []
    for row in range(len(reward)):
        values = reward[row] + gamma[row] * (z + bonus[row])
        members = np.stack([projected(p, values, z) for p in mass[:, row]])
        lowest = members[np.argmin(members @ z)]
        targets.append(lowest if cfg.reduce == "min" else members.mean(0))
        lost.append((mass[:, row] * ((values < z[0]) | (values > z[-1]))).sum(-1).mean())
    target = np.stack(targets)
    loss = -(target * np.log(softmax(now))).sum(-1).mean(1).sum()
    return loss, softmax(now) @ z, target @ z, {"critic/target_saturated_share": np.mean(lost)}


def _gaussian(cfg, critics, now, ahead, reward, gamma, bonus):
    mean, std = now[..., 0], np.log1p(np.exp(now[..., 1]))
    means, stds = ahead[..., 0], np.log1p(np.exp(ahead[..., 1]))
    if cfg.reduce == "min":
        chosen = means.argmin(0)[None]
        means, stds = (np.take_along_axis(x, chosen, 0)[0] for x in (means, stds))
    else:
        means, stds = means.mean(0), stds.mean(0)
    target, target_std = reward + gamma * (means + bonus), gamma * stds
    spread = np.asarray(critics.spread, np.float64)[:, None]
    distance = clipped_square(target - mean, target_std, WIDTH * spread)
    of_mean = mean * (target - mean) / (std**2 + FLOOR)
    of_std = std * (distance - std**2) / (std**3 + FLOOR)
    loss = (-(spread**2 + FLOOR) * (of_mean + of_std)).mean(1).sum()
    return loss, mean, target, {"critic/std": std.mean()}


def clipped_square(mean, std, limit):
    """E[clip(x, -limit, limit)^2] for x ~ N(mean, std^2) by a sum over 20,001 quantiles' midpoints."""
    x = np.linspace(-9.0, 9.0, 20_001)
    weight = stats.norm.pdf(x) * (x[1] - x[0])
    draws = np.asarray(mean)[..., None] + np.asarray(std)[..., None] * x
    edge = np.broadcast_to(np.asarray(limit), np.shape(mean))[..., None]
    return (np.clip(draws, -edge, edge) ** 2) @ weight
