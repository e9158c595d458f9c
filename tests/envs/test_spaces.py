import gymnasium
import numpy as np
import pytest
from fake_env import FakeEnv, act
from gymnasium import spaces

from fewstep import envs
from fewstep.envs.spaces import BadValue, ObservationView
from fewstep.errors import FewstepError, NonFiniteError, UsageError

NESTED = spaces.Dict(
    {
        "z": spaces.Box(-1, 1, (2, 2), np.float64),
        "arm": spaces.Dict({"angle": spaces.Box(-9, 9, (), np.float32), "grip": spaces.Discrete(3, start=1)}),
        "pair": spaces.Tuple((spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3]))),
    }
)


def with_observations(space, value):
    return envs.make(lambda: FakeEnv(observation_space=space, observe=lambda env: value))


def nested(**changes):
    value = {
        "z": np.arange(4.0).reshape(2, 2) / 4,
        "arm": {"angle": np.float32(2.5), "grip": 2},
        "pair": (np.array([0, 1], np.int8), np.array([1, 2])),
    }
    return value | changes


def test_nested_observations_flatten_in_the_order_of_the_space():
    vector = with_observations(NESTED, nested())
    assert vector.spec.obs_size == 1 + 3 + 2 + 5 + 4
    expected = [2.5, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0.25, 0.5, 0.75]  # arm.angle, arm.grip, pair, z
    assert vector.reset([0])[0].tolist() == expected


def test_flattening_agrees_with_gymnasium():
    NESTED.seed(0)
    for _ in range(20):
        value = NESTED.sample()
        flat = with_observations(NESTED, value).reset([0])[0]
        np.testing.assert_array_equal(flat, spaces.flatten(NESTED, value).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_box_of_floats_takes_the_short_way_to_the_same_numbers(dtype):
    view = ObservationView(spaces.Box(-np.inf, np.inf, (2, 3), dtype), "some/Env-v0")
    value = np.random.default_rng(0).normal(size=(4, 3)).astype(dtype)[::2]  # not contiguous
    plain = view.plain(value)
    assert plain is not None
    assert plain.dtype == np.float32
    np.testing.assert_array_equal(plain, value.astype(np.float32).ravel())
    np.testing.assert_array_equal(view.flatten(value.tolist()), plain)  # the long way
    assert not np.shares_memory(plain, value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_numbers_go_through_and_too_large_ones_are_named(dtype):
    """Their squares do not fit into float32: the long way decides, and no warning is seen."""
    view = ObservationView(spaces.Box(-np.inf, np.inf, (2,), dtype), "some/Env-v0")
    np.testing.assert_array_equal(view.flatten(np.array([3e38, -1e30], dtype)), np.float32([3e38, -1e30]))
    with np.errstate(over="ignore"):
        too_large = np.array([1.0, 4e38], dtype)
    with pytest.raises(BadValue, match=r"observation\[1\] is (inf|4e\+38 in float32), not a finite number"):
        view.flatten(too_large)


def test_a_plain_float_is_a_scalar_observation():
    space = spaces.Dict({"height": spaces.Box(-1, 1, ())})
    assert with_observations(space, {"height": 0.5}).reset([0]).tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (nested(arm={"angle": np.nan, "grip": 1}), r"observation\['arm'\]\['angle'\] is nan"),
        (nested(z=np.array([[0, 0], [np.inf, 0]])), r"observation\['z'\]\[1, 0\] is inf"),
        (nested(z=np.zeros(4)), r"observation\['z'\] has shape \(4,\), its space says \(2, 2\)"),
        (nested(arm={"angle": np.zeros(1), "grip": 1}), r"observation\['arm'\]\['angle'\] has shape \(1,\)"),
        (
            nested(arm={"angle": 0.0, "grip": 4}),
            r"observation\['arm'\]\['grip'\] is 4, not a value of its discrete",
        ),
        (nested(arm={"grip": 1}), r"observation\['arm'\] has no entry 'angle'"),
        (nested(pair=(np.zeros(2, np.int8),)), r"observation\['pair'\] has no entry 1"),
        (np.zeros(15), r"observation has no entry 'arm'"),
    ],
)
def test_faults_are_named_in_the_environments_terms(value, message):
    with pytest.raises(FewstepError, match=message):
        with_observations(NESTED, value).reset([0])


def test_a_shape_change_in_the_middle_of_an_episode_is_caught():
    vector = envs.make(lambda: FakeEnv({3: {"observation": np.zeros(2)}}))
    vector.reset([0])
    vector.step(act())
    vector.step(act())
    with pytest.raises(
        FewstepError, match=r"observation has shape \(2,\), its space says \(3,\).*episode step 3"
    ):
        vector.step(act())


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 1, (3, 64, 64), np.float32), r"looks like an image .*declare Box\(0, 255"),
        (
            spaces.Dict({"eye": spaces.Box(0, 255, (84, 84, 12), np.uint8), "hand": spaces.Box(0, 1, (2,))}),
            r"observation\['eye'\] of FakeEnv looks like an image .* beside other observations",
        ),
        (spaces.Box(0, 255, (2, 4, 64, 64, 3), np.uint8), "at most one axis of stacked frames"),
        (spaces.Text(5), "is a Text space, which has no fixed vector form"),
        (spaces.Sequence(spaces.Discrete(2)), "is a Sequence space"),
        (spaces.Box(0, 1, (0,)), "empty observation space"),
    ],
)
def test_observations_without_a_vector_form_are_refused(space, message):
    with pytest.raises(UsageError, match=message):
        with_observations(space, None)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 6), "u1"),
        ((8, 8), "u1"),
        ((7, 7, 3), "u1"),
        ((16, 16, 16), "u1"),
        ((64, 64), "f4"),
        ((2, 3, 4), "f4"),
    ],
)
def test_rows_boards_and_grids_are_vectors_and_no_images(shape, dtype):
    value = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    vector = with_observations(spaces.Box(0, 255, shape, np.dtype(dtype).type), value)
    np.testing.assert_array_equal(vector.reset([0])[0], value.ravel())


def box(low, high):
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def with_actions(space):
    built = []
    vector = envs.make(lambda: built.append(FakeEnv(action_space=space)) or built[-1])
    vector.reset([0])
    return vector, built[0]


def test_asymmetric_bounds_are_reached_exactly():
    low, high = np.array([-0.1, 2.0, -7.3], np.float32), np.array([0.7, 2.1, -1.1], np.float32)
    vector, env = with_actions(spaces.Box(low, high))
    for value in (-1.0, 1.0, 0.0):
        vector.step(act(size=3, value=value))
    np.testing.assert_array_equal(env.actions[0], low)
    np.testing.assert_array_equal(env.actions[1], high)
    np.testing.assert_allclose(env.actions[2], (low + high) / 2, rtol=1e-6)


def test_double_precision_bounds_are_reached_to_the_last_bit():
    low = np.random.default_rng(0).normal(0, 1, 200)
    high = 4.0 + np.random.default_rng(1).gamma(1.0, 1.0, 200)
    assert (low + (high - low) != high).any()  # the obvious formula misses
    vector, env = with_actions(spaces.Box(low, high, dtype=np.float64))
    for value, bound in ((-1.0, low), (1.0, high)):
        vector.step(act(size=200, value=value))
        np.testing.assert_array_equal(env.actions[-1], bound)


def test_actions_in_unit_bounds_arrive_unchanged():
    vector, env = with_actions(spaces.Box(-1.0, 1.0, (2,), np.float32))
    action = np.random.default_rng(0).uniform(-1, 1, (1, 2)).astype(np.float32)
    vector.step(action)
    np.testing.assert_array_equal(env.actions[0], action[0])


def test_actions_keep_the_shape_and_type_of_their_space():
    vector, env = with_actions(spaces.Box(0.0, 3.0, (2, 1, 2), np.float64))
    assert vector.spec.act_size == 4
    vector.step(np.array([[-1, -1 / 3, 1 / 3, 1]], np.float32))
    assert env.actions[0].shape == (2, 1, 2)
    assert env.actions[0].dtype == np.float64
    np.testing.assert_allclose(env.actions[0].ravel(), [0, 1, 2, 3], atol=1e-7)
    assert env.action_space.contains(env.actions[0])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(4), "Discrete action space; fewstep learns continuous actions"),
        (spaces.MultiDiscrete([2, 2]), "MultiDiscrete action space"),
        (spaces.Dict({"a": spaces.Box(-1, 1, (2,))}), "Dict action space"),
        (spaces.Box(0, 5, (2,), np.int64), "Box of int64 as action space"),
        (box([-1, -np.inf], [1, np.inf]), "dimension 1 of FakeEnv has infinite bounds; give"),
        (box([-1, 0], [np.finfo(np.float32).max, 1]), "dimension 0 of FakeEnv has infinite bounds"),
        (box([0, 2], [1, 2]), r"dimension 1 of FakeEnv has low == high \(2\)"),
        (spaces.Box(-1, 1, (0,)), "empty action space"),
    ],
)
def test_action_spaces_that_cannot_be_learned_are_refused(space, message):
    with pytest.raises(UsageError, match=message):
        with_actions(space)


def test_an_infinite_box_can_be_used_once_bounded():
    """What the error message advises works."""

    class Unbounded(FakeEnv):
        def __init__(self):
            super().__init__(action_space=spaces.Box(-np.inf, np.inf, (2,)))

    def bounded():
        return gymnasium.wrappers.TransformAction(Unbounded(), lambda a: a, spaces.Box(-2.0, 2.0, (2,)))

    vector = envs.make(bounded)
    vector.reset([0])
    vector.step(act(value=1.0))
    assert vector.spec.act_size == 2


def test_non_finite_is_its_own_kind_of_error():
    with pytest.raises(NonFiniteError):
        with_observations(spaces.Box(-1, 1, (1,)), np.array([np.nan])).reset([0])
