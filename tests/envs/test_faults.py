"""Every fault of an environment is one line that says what, where, when and from which seed."""

import numpy as np
import pytest
from fake_env import FakeEnv, act

from fewstep import envs
from fewstep.errors import FewstepError, NonFiniteError

WHERE = r"in FakeEnv \(environment 1, episode step 2, total step 5, seed 41\)"


def run_into(answer):
    """Two environments; number 1 does 3 steps, is reset with seed 41, then gives ``answer`` at its step 2."""
    built = []
    vector = envs.make(lambda: built.append(FakeEnv()) or built[-1], 2)
    vector.reset([0, 1])
    for _ in range(3):
        vector.step(act(2))
    vector.reset([40, 41])
    built[1].answers = {2: answer}
    vector.step(act(2))
    vector.step(act(2, value=0.25))


def values(*numbers):
    return np.array(numbers, np.float64)


NOT_FINITE, OTHER = NonFiniteError, FewstepError


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            {"observation": values(0, np.nan, 0)},
            NOT_FINITE,
            r"observation\[1\] is nan, not a finite number <where>",
        ),
        (
            {"observation": values(0, 0, -np.inf)},
            NOT_FINITE,
            r"observation\[2\] is -inf, not a finite .* <where>",
        ),
        (
            {"observation": values(1e39, 0, 0)},
            NOT_FINITE,
            r"observation\[0\] is 1e\+39 in float32, not .* <where>",
        ),
        ({"observation": np.zeros(4)}, OTHER, r"observation has shape \(4,\), its space says \(3,\) <where>"),
        ({"observation": None}, OTHER, r"observation is not numeric \(dtype object\) <where>"),
        ({"observation": [[1], [1, 2]]}, OTHER, "observation is not a rectangular array of numbers <where>"),
        (
            {"observation": np.zeros(3, complex)},
            OTHER,
            r"observation is not numeric \(dtype complex128\) <where>",
        ),
        ({"reward": np.nan}, NOT_FINITE, "reward is nan, not a finite number, <where>"),
        ({"reward": np.float32(np.inf)}, NOT_FINITE, "reward is inf, not a finite number, <where>"),
        ({"reward": -1e39}, NOT_FINITE, r"reward is -1e\+39 in float32, not a finite number, <where>"),
        (
            {"reward": np.zeros(1)},
            OTHER,
            r"reward is an array of shape \(1,\), not a number, <where>; return float",
        ),
        ({"reward": np.array(1.0)}, OTHER, r"reward is an array of shape \(\), not a number, <where>"),
        ({"reward": "1"}, OTHER, r"reward is a str \('1'\), not a number, <where>"),
        ({"reward": True}, OTHER, r"reward is a bool \(True\), not a number, <where>"),
        ({"reward": None}, OTHER, "reward is None, not a number, <where>"),
        (
            {"terminated": 1},
            OTHER,
            r"terminated is an int \(1\), not a bool, <where>; return bool\(terminated\)",
        ),
        (
            {"truncated": np.array([False])},
            OTHER,
            r"truncated is an array of shape \(1,\), not a bool, <where>",
        ),
        (
            {"whole": (np.zeros(3), 1.0, False, {})},
            OTHER,
            r"step returned a tuple of 4, not \(obs.*info\), <where>",
        ),
        (
            {"reward": ValueError("gear\nbroke")},
            OTHER,
            r"step raised ValueError: gear <where>, action \[0.25 0.25\]$",
        ),
        ({"reward": KeyError()}, OTHER, "step raised KeyError <where>, action"),
    ],
)
def test_step_faults_name_field_and_place(answer, kind, message):
    with pytest.raises(FewstepError, match="^" + message.replace("<where>", WHERE)) as caught:
        run_into(answer)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    if isinstance(answer.get("reward"), Exception):
        assert caught.value.__cause__ is answer["reward"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {"whole": np.zeros(3)},
            r"^reset returned an array of shape \(3,\), not \(observation, info\), in Fa",
        ),
        (
            {"observation": values(np.inf, 0, 0)},
            r"^observation\[0\] is inf, .* step 0, total step 0, seed 6\)",
        ),
        (
            {"observation": RuntimeError("cold")},
            r"^reset raised RuntimeError: cold in FakeEnv \(.*, seed 6\)",
        ),
    ],
)
def test_reset_faults(answer, message):
    vector = envs.make(lambda: FakeEnv({0: answer}))
    with pytest.raises(FewstepError, match=message):
        vector.reset([6])


def test_unseeded_resets_are_counted_in_the_message():
    vector = envs.make(lambda: FakeEnv({1: {"reward": np.nan}}))
    vector.reset([9])
    vector.reset()
    vector.reset()
    with pytest.raises(NonFiniteError, match=r"seed 9 then 2 unseeded resets\)"):
        vector.step(act())


def test_after_a_fault_the_episode_is_over():
    vector = envs.make(lambda: FakeEnv({1: {"reward": np.nan}}))
    vector.reset([0])
    with pytest.raises(NonFiniteError):
        vector.step(act())
    with pytest.raises(FewstepError, match="outside an episode"):
        vector.step(act())


def test_stepping_before_any_reset_is_refused():
    with pytest.raises(FewstepError, match=r"outside an episode; reset first, in FakeEnv \(.* no seed\)"):
        envs.make(FakeEnv).step(act())


@pytest.mark.parametrize("reward", [2, np.int32(2), np.float16(2), 2.0])
def test_any_real_number_is_a_reward(reward):
    vector = envs.make(lambda: FakeEnv({1: {"reward": reward}}))
    vector.reset([0])
    assert vector.step(act()).reward.tolist() == [2.0]


def test_interrupts_pass_through():
    class Interrupted(FakeEnv):
        def step(self, action):
            raise KeyboardInterrupt

    vector = envs.make(Interrupted)
    vector.reset([0])
    with pytest.raises(KeyboardInterrupt):
        vector.step(act())
