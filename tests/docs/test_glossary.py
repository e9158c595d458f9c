"""The glossary has every metric that a run can write."""

import jax
import pytest

from fewstep.algos import registry
from tests.algos.contract.test_contract import SPEC, Case
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text()
VARIANTS = [
    *((name, {}) for name in registry.BUILT_IN),
    ("sac", {"critic.head": "categorical"}),
    ("sac", {"critic.head": "gaussian"}),
    ("smfp", {"entropy.kind": "dual"}),
    ("smfp", {"entropy.kind": "semi_implicit", "entropy.proposal": "learned"}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_every_metric_of_an_algorithm_is_explained(name, settings):
    case = Case.of(name, **settings)
    state = jax.eval_shape(lambda: case.algorithm.init(case.cfg, SPEC, jax.random.key(0)))
    _, metrics = jax.eval_shape(lambda s, d: case.algorithm.update(case.cfg, s, d), state, case.data())
    assert [metric for metric in metrics if f"| `{metric}` |" not in PAGE] == []


def test_every_column_of_the_loop_is_explained():
    from tests.faults.test_resume_everything import go, trainer

    one = trainer("sac", **{"replay.reward": "std"})
    go(one, 42)
    row = one.interval() | one.learner.take_times()
    one.close()
    columns = {*row, "wall_seconds", "wall_env_steps_per_second", "wall_act_ms", "wall_update_ms"}
    assert [column for column in columns if f"| `{column}` |" not in PAGE] == []
