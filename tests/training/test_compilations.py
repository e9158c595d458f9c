"""Training compiles each of its programs once: what an update returns fits what the next one is given."""

import logging

import jax
import numpy as np
import pytest

from fewstep.training.learner import Learner
from tests.algos.contract.test_contract import SPEC, Case
from tests.few import slow


@pytest.mark.parametrize("name", ["sac", *slow("smfp", "mfpo")])
def test_nothing_is_compiled_after_the_first_update(name: str, caplog: pytest.LogCaptureFixture) -> None:
    case = Case.of(name)
    learner = Learner(case.algorithm, case.cfg, SPEC, 0, case.data())
    obs = np.zeros((1, SPEC.obs_size), np.float32)

    def one_round() -> list[str]:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            learner.act(obs, 0)
            learner.learn(case.batches(1))
            learner.take_means()
        return [r.message for r in caplog.records if "Finished XLA compilation" in r.message]

    first = one_round()
    assert any("many" in message for message in first), first
    # The sums of metrics are reset for the first time by the first round.
    assert not any("many" in message for message in one_round())
    for _ in range(3):
        assert one_round() == []
