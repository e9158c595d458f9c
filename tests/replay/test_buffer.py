import json
import tracemalloc

import numpy as np
import pytest

from fewstep.errors import FewstepError, UsageError
from fewstep.replay import ReplayBuffer
from fewstep.types import Spec, Transition

SPEC = Spec(obs_size=3, act_size=2)


def transitions(start, count, spec=SPEC):
    """Row k holds the number k in every field, so that a drawn row can be recognised."""
    k = np.arange(start, start + count, dtype=np.float32)
    return Transition(
        obs=np.repeat(k[:, None], spec.obs_size, 1),
        action=np.repeat(np.sin(k)[:, None], spec.act_size, 1),
        reward=k,
        terminated=k % 3 == 0,
        next_obs=np.repeat(k[:, None] + 0.5, spec.obs_size, 1),
    )


def filled(capacity=10, count=4, seed=0):
    buffer = ReplayBuffer(capacity, SPEC, seed)
    buffer.add(transitions(0, count))
    return buffer


def kept(fields):
    """Without the number that only some ask for."""
    return [field for field in fields if field is not None]


def same(a, b):
    return all(
        x.tobytes() == y.tobytes() and x.dtype == y.dtype for x, y in zip(kept(a), kept(b), strict=True)
    )


def test_rows_stay_together_and_have_the_right_types():
    batch = filled().sample(5, 7)
    k = batch.reward
    assert [field.shape for field in batch[:5]] == [(5, 7, 3), (5, 7, 2), (5, 7), (5, 7), (5, 7, 3)]
    assert [field.dtype for field in batch[:5]] == [np.float32, np.float32, np.float32, np.bool_, np.float32]
    np.testing.assert_array_equal(batch.obs, np.repeat(k[..., None], 3, -1))
    np.testing.assert_array_equal(batch.action, np.repeat(np.sin(k)[..., None], 2, -1))
    np.testing.assert_array_equal(batch.terminated, k % 3 == 0)
    np.testing.assert_array_equal(batch.next_obs, batch.obs + 0.5)


@pytest.mark.parametrize("chunk", [1, 3, 7, 10])
def test_the_ring_keeps_the_newest(chunk):
    buffer = ReplayBuffer(10, SPEC, 0)
    total = 0
    while total < 34:
        buffer.add(transitions(total, chunk))
        total += chunk
        expected = range(max(0, total - 10), total)
        assert len(buffer) == len(expected)
        assert sorted(buffer.arrays()["reward"].tolist()) == list(expected)
        assert buffer.cursor == total % 10
    assert set(np.unique(buffer.sample(20, 50).reward)) == set(range(total - 10, total))


def test_sampling_is_uniform_over_what_is_there():
    draws = filled(count=8).sample(100, 400).reward.ravel()
    counts = np.bincount(draws.astype(int), minlength=10)
    assert counts[8:].sum() == 0
    chi_squared = ((counts[:8] - 5000) ** 2 / 5000).sum()
    assert chi_squared < 24.3  # 99.9 % of chi-squared with 7 degrees of freedom


def test_added_and_drawn_arrays_are_copies():
    given = transitions(0, 4)
    buffer = ReplayBuffer(4, SPEC, 0)
    buffer.add(given)
    given.obs[:] = -7
    buffer.sample(2, 8).obs[:] = -7
    np.testing.assert_array_equal(buffer.arrays()["obs"][:, 0], np.arange(4))


def test_the_seed_decides_the_draws():
    assert same(filled(seed=1).sample(3, 5), filled(seed=1).sample(3, 5))
    assert not same(filled(seed=1).sample(3, 5), filled(seed=2).sample(3, 5))


@pytest.mark.parametrize("added", [4, 10, 13])
def test_a_refilled_buffer_continues_to_the_last_bit(added):
    buffer = ReplayBuffer(10, SPEC, 3)
    for k in range(added):
        buffer.add(transitions(k, 1))
    buffer.sample(2, 3)
    start = max(0, added - 10)
    saved = buffer.read(start, added)
    rng_state = json.loads(json.dumps(buffer.rng_state))
    other = ReplayBuffer(10, SPEC, 99)
    other.refill(start, added, [(start, saved)], rng_state)
    for k in range(added, added + 12):
        assert same(buffer.sample(2, 6)[:5], other.sample(2, 6)[:5])
        buffer.add(transitions(k, 1))
        other.add(transitions(k, 1))
        assert same(buffer.read(max(0, k - 9), k + 1).values(), other.read(max(0, k - 9), k + 1).values())
    assert (len(other), other.cursor) == (len(buffer), buffer.cursor)


def test_refill_refuses_what_does_not_fit():
    buffer = filled(capacity=10, count=4)
    state, arrays = buffer.rng_state, buffer.read(0, 4)
    cases = [
        (0, 4, {k: v for k, v in arrays.items() if k != "obs"}, state, "has fields"),
        (
            0,
            4,
            arrays | {"obs": arrays["obs"][:, :2]},
            state,
            r"is float32 \(4, 2\), expected float32 \(4, 3\)",
        ),
        (0, 4, arrays | {"obs": arrays["obs"].astype(np.float64)}, state, "'obs' is float64"),
        (0, 4, arrays | {"obs": arrays["obs"][:3]}, state, r"'obs' is float32 \(3, 3\)"),
        (0, 5, arrays, state, "ends at transition 4 instead of 5"),
        (1, 5, arrays, state, "holds transitions 1 to 5, this buffer fits 10"),
        (0, 4, arrays, {"bit_generator": "MT19937"}, "damaged generator state"),
        (0, 4, arrays, {}, "damaged generator state"),
    ]
    for start, stop, saved, rng_state, message in cases:
        with pytest.raises(FewstepError, match=message):
            ReplayBuffer(10, SPEC, 0).refill(start, stop, [(start, saved)], rng_state)


@pytest.mark.parametrize("added", [1, 7, 10, 11, 29])
def test_a_number_says_which_transition_it_is(added):
    buffer = ReplayBuffer(10, SPEC, 3)
    for k in range(added):
        buffer.add(transitions(k, 1))
    drawn = buffer.sample(3, 40, numbered=True)
    assert drawn.number.dtype == np.int32
    assert set(drawn.number.ravel()) <= set(range(max(0, added - 10), added))
    for number, reward in zip(drawn.number.ravel(), drawn.reward.ravel(), strict=True):
        assert reward == transitions(int(number), 1).reward[0]
    assert buffer.sample(1, 2).number is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": np.zeros((4, 2), np.float32)}, r"'obs' has shape \(4, 2\), expected \(4, 3\)"),
        ({"action": np.zeros((4,), np.float32)}, r"'action' has shape \(4,\), expected \(4, 2\)"),
        ({"reward": np.zeros((4, 1), np.float32)}, r"'reward' has shape \(4, 1\)"),
        ({"reward": np.float32(0)}, r"has shape"),
        ({"next_obs": np.zeros((3, 3), np.float32)}, r"'next_obs' has shape \(3, 3\)"),
        ({"terminated": np.zeros(4, np.float32)}, "'terminated' must be bool, got float32"),
        ({"action": np.full((4, 2), 1.001, np.float32)}, r"'action' must lie in \[-1, 1\]"),
        ({"action": np.full((4, 2), np.nan, np.float32)}, r"'action' must lie in \[-1, 1\]"),
        ({"reward": np.full(4, np.inf, np.float32)}, "'reward' is not finite"),
    ],
)
def test_wrong_transitions_are_refused_and_not_stored(change, message):
    buffer = filled(count=2)
    with pytest.raises(UsageError, match=message):
        buffer.add(transitions(0, 4)._replace(**change))
    assert (len(buffer), buffer.cursor) == (2, 2)


def test_wrong_sizes_are_refused():
    for capacity in (0, -5):
        with pytest.raises(UsageError, match="capacity must be at least 1"):
            ReplayBuffer(capacity, SPEC, 0)
    with pytest.raises(UsageError, match="seed must not be negative"):
        ReplayBuffer(5, SPEC, -1)
    with pytest.raises(UsageError, match="is empty; collect transitions"):
        ReplayBuffer(5, SPEC, 0).sample(1, 1)
    for updates, batch in ((0, 4), (1, 0), (-1, 4)):
        with pytest.raises(UsageError, match="at least 1 update and 1 row"):
            filled().sample(updates, batch)
    with pytest.raises(UsageError, match="11 transitions at once do not fit a replay buffer of 10"):
        filled().add(transitions(0, 11))
    with pytest.raises(UsageError, match="GB, more than this machine can reserve"):
        ReplayBuffer(10**13, Spec(376, 17), 0)


def test_a_million_humanoid_transitions_fit_in_3_2_gb():
    per_thousand = ReplayBuffer(1000, Spec(376, 17), 0).nbytes
    assert per_thousand == 1000 * (2 * 376 * 4 + 17 * 4 + 4 + 1)
    assert per_thousand * 1000 <= 3.2e9


def test_sampling_allocates_little_beyond_what_it_returns():
    spec = Spec(50, 5)
    buffer = ReplayBuffer(20_000, spec, 0)
    buffer.add(transitions(0, 20_000, spec))
    tracemalloc.start()
    batch = buffer.sample(8, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * sum(field.nbytes for field in batch[:5])
