"""Every registered algorithm, cut anywhere, goes on as if nothing had happened: to the last bit."""

import json

import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.runs import checkpoint, segments
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.trainer import Trainer
from tests.algos.common import representatives

STEPS = 130
CUTS = {
    "in the warm-up": 11,
    "after the first updates": 50,
    "in an episode": 77,
    "after the ring wrapped": 101,
}
LOOP = {
    "replay.learning_starts": 40,
    "replay.capacity": 100,
    "replay.batch_size": 8,
}


@pytest.fixture(params=representatives("smfp"))
def algorithm(request):
    return request.param


def trainer(name, **more):
    record = registry.get(name)
    loop = LOOP if record.rollout is None else {}  # an on-policy algorithm has no warm-up and no ring
    return Trainer(
        resolve(name, record.config, "toy/multigoal", seed=2, overrides=dict(record.tiny) | loop | more),
        record,
    )


def go(one, until):
    while one.env_steps < until:
        one.advance()


def evaluation(one):
    """Returns and lengths of two episodes with the policy as it is now."""
    cfg = one.config.algorithm
    judge = Evaluator(one.algorithm, cfg, one.config.env, episodes=2, modes=["sample"], seed=2)
    row = judge.evaluate(one.policy, one.env_steps, one.updates)[0]
    judge.close()
    return row["returns"], row["lengths"]


def described(one):
    """Everything a checkpoint holds, as bytes."""
    groups, meta = one.snapshot()
    flat = {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}
    return {name: (a.dtype, a.shape, np.asarray(a, order="C").tobytes()) for name, a in flat.items()}, meta


def test_resume_is_exact(algorithm, tmp_path, monkeypatch):
    check_resume(algorithm, tmp_path, monkeypatch)


def test_resume_is_exact_while_updates_overlap_steps(tmp_path, monkeypatch):
    check_resume("sac", tmp_path, monkeypatch, **{"replay.overlap": True})


def test_resume_is_exact_on_normalised_observations(tmp_path, monkeypatch):
    check_resume("sac", tmp_path, monkeypatch, **{"replay.normalise_obs": True})


def test_the_policy_of_an_overlapping_run_is_one_dispatch_old():
    """Learning from the same data in the same order, acting before the newest update instead of after it."""
    run, plain = (trainer("sac", **{"replay.overlap": overlap}) for overlap in (True, False))
    acted = []
    act, learn = plain.learner.act, plain.learner.learn
    waiting = []
    plain.learner.act = lambda obs, steps: acted.append(act(obs, steps)) or acted[-1]
    plain.learner.learn = waiting.append
    while plain.env_steps < 60:  # the same by hand: each update is put off until the next action is chosen
        due = list(waiting)
        waiting.clear()
        action = plain.warm_up_action()
        action = plain.learner.act(plain.obs, plain.env_steps) if action is None else action
        for data in due:
            learn(data)
        plain.take(action)
        data = plain.due()
        if data is not None:
            plain.learner.learn(data)
        plain.begin()
    go(run, 60)
    assert len(acted) == 21
    assert run.updates == plain.updates == 20
    for name, array in described(run)[0].items():
        if not name.startswith("ahead"):
            assert described(plain)[0][name] == array, name


def check_resume(algorithm, tmp_path, monkeypatch, **more):
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 500)
    whole = trainer(algorithm, **more)
    written, evaluated = {}, {}
    for cut in CUTS.values():
        go(whole, cut)
        steps = whole.env_steps  # beyond the cut, of several environments
        checkpoint.save(tmp_path, steps, *whole.snapshot(), keep=len(CUTS))
        written[cut] = tmp_path / f"{steps:09d}"
        evaluated[cut] = evaluation(whole)
    go(whole, STEPS)
    expected, expected_meta = described(whole)
    for where, cut in CUTS.items():
        resumed = trainer(algorithm, **more)
        assert resumed.restore(checkpoint.load(written[cut])) == []
        assert evaluation(resumed) == evaluated[cut], where
        go(resumed, STEPS)
        found, meta = described(resumed)
        assert found.keys() == expected.keys()
        different = [name for name in expected if found[name] != expected[name]]
        assert not different, f"{where}: {different}"
        assert json.dumps(meta) == json.dumps(expected_meta), where
