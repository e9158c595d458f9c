"""Ctrl-C at any moment of ``learn``, and a device that fails: the model goes on, or says that it cannot."""

import dataclasses
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import fewstep
from fewstep import interrupts
from fewstep.errors import FewstepError
from fewstep.training.several.cohort import Cohort
from fewstep.training.trainer import Trainer
from tests.e2e import tiny_algorithm
from tests.e2e.helpers import TINY

FAST = {
    "replay.learning_starts": 4,
    "replay.batch_size": 4,
    "replay.capacity": 4000,
    "training.log_every": 2,
}
pytestmark = pytest.mark.usefixtures("ctrl_c")
SOURCE = str(Path(fewstep.__file__).parent)
OBSERVATION = np.array([0.1, 0.2], np.float32)


def model(**more):
    return fewstep.Model(TINY, "toy/multigoal", **(FAST | more))


class At:
    """A signal to this process at the n-th line of fewstep's code that runs in the block."""

    def __init__(self, n, number=signal.SIGINT):
        self.left, self.number = n, number

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *error):
        sys.settrace(self.before)

    def _trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(self.number)
        return self._trace


def agree(one):
    """Steps, experience and updates are those of whole steps."""
    trainer = one._trainer
    ahead = 0 if trainer._ahead is None else 1
    assert trainer.experience.buffer.added == trainer.env_steps
    assert trainer.updates + ahead == max(0, trainer.env_steps - FAST["replay.learning_starts"] + 1)
    assert int(trainer.learner.state.updates) == trainer.updates


@pytest.mark.parametrize("overlap", [False, True])
def test_an_interrupt_at_every_line_of_a_step_leaves_a_whole_model(overlap, tmp_path):
    one = model(**{"replay.overlap": overlap}).learn(20)
    n, interrupted = 0, 0
    while True:
        n += 1
        at = At(n)
        try:
            with at:
                one.learn(2)
        except KeyboardInterrupt:
            interrupted += 1
        agree(one)
        if at.left > 0:
            break  # the block has no more lines
    assert n > 100
    assert interrupted == n - 1  # none was swallowed
    one.predict(OBSERVATION)
    one.save(tmp_path / "model", replay=True)
    steps = one.num_timesteps
    loaded = fewstep.load(tmp_path / "model").learn(3)
    agree(loaded)
    assert one.learn(3).num_timesteps == loaded.num_timesteps == steps + 3


def test_an_interrupt_in_the_first_update_too():
    """While it is traced and compiled, inside jax's own Python code."""
    one = model(**{"replay.batch_size": 5})
    update = one._trainer.learner._update_leaves

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        made = update(*arguments)
        signal.raise_signal(signal.SIGINT)
        return made

    one._trainer.learner._update_leaves = interrupted
    with pytest.raises(KeyboardInterrupt):
        one.learn(10)
    agree(one)
    assert one.num_timesteps == FAST["replay.learning_starts"]
    one._trainer.learner._update_leaves = update
    agree(one.learn(10))


def test_an_exception_of_the_users_own_handler_waits_as_well():
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    one, before = model(), signal.signal(signal.SIGUSR1, handler)
    try:
        for n in range(1, 200, 7):
            with pytest.raises(Alarm), At(n, signal.SIGUSR1):
                one.learn(3)
            agree(one)
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_the_user_calls_is_interrupted_at_once():
    reached = []
    with interrupts.deferred() as deliver:
        signal.raise_signal(signal.SIGINT)
        reached.append("own code goes on")
        with pytest.raises(KeyboardInterrupt):
            deliver()
        with pytest.raises(KeyboardInterrupt):
            interrupts.at_once(signal.raise_signal, signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("and waits again")
        with pytest.raises(KeyboardInterrupt):
            deliver()
    assert len(reached) == 2


def test_a_callback_is_interrupted_at_once_and_its_model_is_whole():
    one, after = model(), []

    def callback(row):
        signal.raise_signal(signal.SIGINT)
        after.append(row)

    with pytest.raises(KeyboardInterrupt):
        one.learn(50, callback)
    assert not after
    agree(one.learn(7))


def test_a_signal_at_the_very_end_is_not_lost():
    before = signal.getsignal(signal.SIGINT)

    def go():
        with interrupts.deferred() as deliver:
            deliver()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_breaks_through_what_hangs(monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE", 0.05)
    with interrupts.deferred():
        signal.raise_signal(signal.SIGINT)  # waits
        time.sleep(0.06)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_learning_in_another_thread_touches_no_handler():
    one, seen = model(), []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: one.learn(6, lambda row: seen.append(signal.getsignal(2))))
    thread.start()
    thread.join()
    assert set(seen) == {before}
    agree(one)


def failing(at):
    """The tiny algorithm, whose ``at``-th update fails on the device."""

    def fail(updates):
        if updates == at:
            raise RuntimeError("no memory left")
        return np.int32(0)

    def update(cfg, state, batch):
        told = jax.pure_callback(
            fail, jax.ShapeDtypeStruct((), np.int32), state.updates, vmap_method="sequential"
        )
        new, metrics = tiny_algorithm.update(cfg, state, batch)
        return new._replace(baseline=new.baseline + told), metrics

    return dataclasses.replace(tiny_algorithm.ALGORITHM, name="failing", update=update)


FAILING = failing(10)


def refused(call):
    with pytest.raises(
        FewstepError, match=r"networks were lost when an update failed .*fewstep\.load"
    ) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_networks_that_a_failed_update_took_are_said_to_be_lost(tmp_path):
    one = fewstep.Model("tests.faults.test_interrupts:FAILING", "toy/multigoal", **FAST)
    one.learn(8).save(tmp_path / "model")
    for call in (
        lambda: one.learn(50),
        lambda: one.learn(5),
        lambda: one.predict(OBSERVATION),
        lambda: one.predict(OBSERVATION, deterministic=True),
        lambda: one.save(tmp_path / "model"),
    ):
        refused(call)
    assert fewstep.load(tmp_path / "model").learn(2).num_timesteps == 10


def test_a_failure_between_giving_and_taking_is_said_too():
    one = model().learn(8)
    update = one._trainer.learner._update_leaves

    def torn(*arguments):
        update(*arguments)
        raise MemoryError

    one._trainer.learner._update_leaves = torn
    refused(lambda: one.learn(1))
    one._trainer.learner._update_leaves = update
    refused(lambda: one.learn(1))


def test_a_failure_before_anything_is_given_leaves_the_networks():
    one = model().learn(8)
    update = one._trainer.learner._update_leaves

    def full(*arguments):
        raise MemoryError("compiling")

    one._trainer.learner._update_leaves = full
    with pytest.raises(FewstepError, match="networks are as they were before"):
        one.learn(1)
    one._trainer.learner._update_leaves = update
    one.learn(3)
    one.predict(OBSERVATION)


def test_seeds_together_say_it_for_each():
    config = model().config
    trainers = [Trainer(dataclasses.replace(config, seed=seed), FAILING) for seed in (0, 1)]
    cohort = Cohort(trainers)

    def go():
        while cohort.env_steps < 60:
            cohort.advance()

    refused(go)
    cohort.part()
    for trainer in trainers:
        refused(trainer.snapshot)
        trainer.close()
