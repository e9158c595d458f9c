"""Improved actions in place of those of the replay buffer."""

import jax.numpy as jnp
import numpy as np

from fewstep.algos.shared.action_memory import ActionMemory
from tests.faults.test_resume_everything import check_resume, go, trainer

RELABELLING = "tests.algos.relabelling:ALGORITHM"


def test_what_is_written_is_read_until_the_ring_comes_round():
    taken = jnp.arange(4.0)[:, None]
    memory = ActionMemory.create(5, 1)
    number = jnp.array([3, 4, 5, 6], jnp.int32)
    np.testing.assert_array_equal(memory.read(number, taken), taken)
    memory = memory.write(number[:2], jnp.array([[0.3], [0.4]]))
    np.testing.assert_allclose(memory.read(number, taken).ravel(), [0.3, 0.4, 2.0, 3.0])
    later = number + 5  # the same rows of the ring, other transitions
    np.testing.assert_array_equal(memory.read(later, taken), taken)
    memory = memory.write(later[:1], jnp.array([[0.8]]))
    np.testing.assert_allclose(memory.read(jnp.array([8, 3, 4]), taken[:3]).ravel(), [0.8, 1.0, 0.4])


def test_an_algorithm_that_writes_back_resumes_exactly(tmp_path, monkeypatch):
    check_resume(RELABELLING, tmp_path, monkeypatch)


def test_actions_are_improved_again_and_again():
    one = trainer(RELABELLING)
    go(one, 60)
    early = one.interval()["memory/moved"]
    go(one, 100)
    assert one.interval()["memory/moved"] > early > 0
    one.close()
