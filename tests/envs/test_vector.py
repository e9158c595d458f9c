import numpy as np
import pytest
from fake_env import FakeEnv, act

from fewstep import envs
from fewstep.errors import FewstepError, NonFiniteError, UsageError
from fewstep.types import Spec


def test_types_shapes_and_spec():
    vector = envs.make("HalfCheetah-v5", 3)
    assert (vector.env_id, vector.count, vector.spec) == ("HalfCheetah-v5", 3, Spec(17, 6))
    assert (vector.max_episode_steps, vector.toy) == (1000, None)
    assert vector.reset([0, 1, 2]).dtype == np.float32
    result = vector.step(act(3, 6))
    assert (result.obs.shape, result.obs.dtype) == ((3, 17), np.float32)
    assert (result.reward.shape, result.reward.dtype) == ((3,), np.float32)
    assert result.terminated.dtype == result.truncated.dtype == np.bool_
    vector.close()
    vector.close()


def two_step(kind):
    return lambda: FakeEnv({2: {kind: True}})


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_the_two_ends_of_an_episode_stay_apart_and_nothing_resets(kind):
    other = {"terminated": "truncated", "truncated": "terminated"}[kind]
    vector = envs.make(two_step(kind))
    start = vector.reset([5])
    first, last = vector.step(act()), vector.step(act())
    assert not first.terminated[0]
    assert not first.truncated[0]
    assert getattr(last, kind)[0]
    assert not getattr(last, other)[0]
    assert last.obs[0].tolist() == [2.0, 2.0, start[0, 2]]  # the true successor, not the next episode's start
    with pytest.raises(FewstepError, match="outside an episode; reset first"):
        vector.step(act())


def test_both_flags_at_once_are_both_reported():
    vector = envs.make(lambda: FakeEnv({1: {"terminated": np.bool_(True), "truncated": True}}))
    vector.reset([0])
    result = vector.step(act())
    assert result.terminated[0]
    assert result.truncated[0]


def test_a_time_limit_truncates_and_wrong_bootstrapping_would_show():
    """Reward 1 forever, discount 0.9: worth 10. Treating the limit at step 2 as terminal would say 1.9."""

    def estimate(end_of):
        vector = envs.make(FakeEnv, max_episode_steps=2)
        assert vector.max_episode_steps == 2
        values = np.zeros(3)  # by episode step; the state at the limit shares the value of the one before it
        for _ in range(200):
            vector.reset([0])
            for t in range(2):
                result = vector.step(act())
                values[t] = result.reward[0] + 0.9 * values[min(t + 1, 1)] * (not end_of(result)[0])
        return values[0]

    assert estimate(lambda r: r.terminated) == pytest.approx(10.0, abs=1e-3)
    assert estimate(lambda r: r.terminated | r.truncated) == pytest.approx(1.9)


def test_masked_reset_touches_only_the_masked():
    built = []
    vector = envs.make(lambda: built.append(FakeEnv()) or built[-1], 3)
    vector.reset([10, 11, 12])
    vector.step(act(3))
    before = vector.obs
    after = vector.reset([20, 21, 22], mask=np.array([False, True, False]))
    assert [env.seeds for env in built] == [[10], [11, 21], [12]]
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert after[1, 0] == 0
    assert after[1, 2] != before[1, 2]
    vector.reset(None, mask=np.array([True, False, False]))
    assert built[0].seeds == [10, None]
    np.testing.assert_array_equal(vector.reset(mask=np.zeros(3, np.bool_)), vector.obs)


def test_an_unseeded_reset_continues_the_environments_own_stream():
    def starts():
        vector = envs.make(FakeEnv)
        return [vector.reset([7])[0, 2], vector.reset(None)[0, 2], vector.reset([None])[0, 2]]

    first = starts()
    assert first == starts()
    assert len(set(first)) == 3


def test_masked_step_leaves_the_others_alone():
    built = []
    vector = envs.make(lambda: built.append(FakeEnv({1: {"terminated": True}})) or built[-1], 2)
    built[1].answers = {}
    vector.reset([0, 1])
    done = vector.step(act(2))
    assert done.terminated.tolist() == [True, False]
    actions = act(2)
    actions[0] = np.nan  # not used, so it does not matter
    result = vector.step(actions, mask=~done.terminated)
    assert [env.total for env in built] == [1, 2]
    assert result.reward.tolist() == [0.0, 1.0]
    assert not result.terminated.any()
    np.testing.assert_array_equal(result.obs[0], done.obs[0])


def test_an_environment_that_reuses_its_array_changes_nothing_already_returned():
    shared = np.zeros(3, np.float32)

    def observe(env):
        shared[:] = env.total
        return shared

    vector = envs.make(lambda: FakeEnv(observe=observe))
    start = vector.reset([0])
    first = vector.step(act())
    vector.step(act())
    shared[:] = -1
    assert start.tolist() == [[0, 0, 0]]
    assert first.obs.tolist() == [[1, 1, 1]]
    assert vector.obs.tolist() == [[2, 2, 2]]
    vector.obs[:] = 9  # a copy too
    assert vector.obs.tolist() == [[2, 2, 2]]


def test_actions_are_clipped_and_must_be_finite():
    built = []
    vector = envs.make(lambda: built.append(FakeEnv()) or built[-1])
    vector.reset([0])
    given = np.array([[-3.0, 2.0]], np.float32)
    vector.step(given)
    assert built[0].actions[0].tolist() == [-1.0, 1.0]
    assert given.tolist() == [[-3.0, 2.0]]
    with pytest.raises(NonFiniteError, match=r"action\[1\] is nan for FakeEnv \(environment 0"):
        vector.step(np.array([[0.0, np.nan]], np.float32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: v.step(act(1, 3)), r"needs actions of shape \(2, 2\), got \(1, 3\)"),
        (lambda v: v.reset([1]), "1 seeds were given for 2 environments"),
        (lambda v: v.reset([1, -1]), "non-negative integer, got -1"),
        (lambda v: v.reset([1, 0.5]), "non-negative integer, got 0.5"),
        (lambda v: v.reset(mask=np.ones(3, np.bool_)), r"mask of 2 bools, got bool \(3,\)"),
        (lambda v: v.step(act(2), np.ones(2)), r"mask of 2 bools, got float64"),
    ],
)
def test_wrong_calls_are_refused(call, message):
    vector = envs.make(FakeEnv, 2)
    vector.reset([0, 1])
    with pytest.raises(UsageError, match=message):
        call(vector)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Pendulum-v1", "toy/multigoal"])
def test_seeds_reproduce_trajectories(env_id):
    def trajectory(seed):
        vector = envs.make(env_id, 2)
        rng = np.random.default_rng(0)
        rows = [vector.reset([seed, seed + 1])]
        for _ in range(20):
            result = vector.step(rng.uniform(-0.3, 0.3, (2, vector.spec.act_size)).astype(np.float32))
            rows.append(np.column_stack([result.obs, result.reward])[:, : vector.spec.obs_size])
        rows.append(vector.reset())
        return np.stack(rows)

    a, b, c = trajectory(3), trajectory(3), trajectory(4)
    assert a.tobytes() == b.tobytes()
    assert not np.array_equal(a, c)
    np.testing.assert_array_equal(a[0, 1], c[0, 0])  # seed 4 in either slot
    assert not np.array_equal(a[0], a[-1])


def test_reset_seeds_the_action_space():
    built = []
    vector = envs.make(lambda: built.append(FakeEnv()) or built[-1])
    vector.reset([3])
    sample = built[0].action_space.sample()
    vector.reset([3])
    np.testing.assert_array_equal(built[0].action_space.sample(), sample)


def test_environments_are_closed_when_a_later_one_cannot_be_built():
    built = []

    def build():
        if built:
            raise RuntimeError("no more\nlicences")
        built.append(FakeEnv())
        return built[0]

    with pytest.raises(
        UsageError, match=r"build could not build its environment: RuntimeError: no more .1 of 2 could be.$"
    ):
        envs.make(build, 2)
    assert built[0].closed == 1


def test_the_same_environment_twice_or_different_spaces_are_refused():
    one = FakeEnv()
    with pytest.raises(UsageError, match="same environment twice"):
        envs.make(lambda: one, 2)
    from gymnasium import spaces

    sizes = iter([2, 3])
    with pytest.raises(UsageError, match="environment 1 of FakeEnv has other spaces"):
        envs.make(lambda: FakeEnv(action_space=spaces.Box(-1, 1, (next(sizes),))), 2)
