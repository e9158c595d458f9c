"""Each mistake that an algorithm of the user's own can make is called theirs, in one line."""

import dataclasses
import itertools
import random
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import plugin, registry
from fewstep.cli import main
from fewstep.config import ReplayConfig
from fewstep.errors import UsageError
from fewstep.training import demands
from fewstep.types import Spec, Transition
from tests.e2e import tiny_algorithm as tiny
from tests.e2e.helpers import one_line, train

SPEC = Spec(3, 2)
F32 = {"obs": (4, 3), "action": (4, 2), "reward": (4,), "terminated": (4,), "next_obs": (4, 3)}
DATA = Transition(
    **{n: jax.ShapeDtypeStruct(s, np.bool_ if n == "terminated" else np.float32) for n, s in F32.items()}
)


def hold(**changes):
    """Load the tiny algorithm with these changes, and hold it to the contract."""
    record = plugin.adopted("tests.e2e.tiny_algorithm:MINE", dataclasses.replace(tiny.ALGORITHM, **changes))
    demands.check(record, record.config(), SPEC, DATA)


def updated(**fields):
    """The tiny update, then fields of its state replaced by functions of state and metrics."""

    def update(cfg, state, batch):
        after, metrics = tiny.update(cfg, state, batch)
        return after._replace(**{name: value(after) for name, value in fields.items()}), metrics

    return update


def measured(change):
    def update(cfg, state, batch):
        after, metrics = tiny.update(cfg, state, batch)
        return after, change(metrics)

    return update


def drawn(change):
    return lambda cfg, policy, obs, noise: change(tiny.draw(cfg, policy, obs, noise))


def valued(change):
    """What best-of-N chooses by, its values changed."""
    return lambda cfg, policy: lambda obs, action: change(tiny.nearest_to_the_mean(cfg, policy)(obs, action))


CALLS = itertools.count()
RNG = np.random.default_rng(0)


def started(**fields):
    def init(cfg, spec, key):
        state = tiny.init(cfg, spec, key)
        return state._replace(**{name: value(state) for name, value in fields.items()})

    return init


def impure(number):
    def update(cfg, state, batch):
        after, metrics = tiny.update(cfg, state, batch)
        return after._replace(weight=after.weight + number()), metrics

    return update


UPDATES = {
    "not counted": (
        updated(updates=lambda s: s.updates - 1),
        None,
    ),  # no trace shows it: see the runs below
    "given back": (
        lambda c, s, b: (tiny.update(c, s, b)[0]._replace(updates=s.updates), {}),
        "add 1 to state.upd",
    ),
    "another shape": (
        updated(baseline=lambda s: s.weight),
        "state.baseline: float32[] becomes float32[3, 2]",
    ),
    "another type": (
        updated(updates=lambda s: s.updates.astype(float)),
        "state.updates: int32[] becomes float",
    ),
    "no pair": (lambda cfg, state, batch: state.weight, "must return (state, metrics), got a "),
    "another tree": (updated(weight=lambda s: [s.weight]), "must keep the fields of the state, but "),
    "state missing": (lambda c, s, b: (None, {}), "must keep the fields of the state, but drops "),
    "no metrics": (measured(lambda metrics: None), "metrics as a dict, got a NoneType"),
    "nameless metric": (measured(lambda m: {"loss": m["actor/loss"]}), "named group/quantity"),
    "number as name": (measured(lambda m: {3: m["actor/loss"]}), "named group/quantity"),
    "metric of rows": (
        measured(lambda m: m | {"actor/all": jnp.ones(4)}),
        "actor/all must be a float scalar",
    ),
    "counting metric": (measured(lambda m: m | {"actor/n": jnp.int32(4)}), "actor/n must be a float scalar"),
    "text": (measured(lambda m: m | {"actor/n": "many"}), "actor/n must be a float scalar, got a str"),
    "numpy's numbers": (impure(RNG.standard_normal), "update must be pure"),
    "numpy's arrays": (impure(lambda: RNG.standard_normal((3, 2))), "update must be pure"),
    "python's numbers": (impure(random.random), "update must be pure"),
    "the clock": (impure(lambda: time.time() % 1), "update must be pure"),
    "a counter": (impure(lambda: next(CALLS)), "update must be pure"),
}


@pytest.mark.parametrize("name", UPDATES)
def test_update(name):
    update, message = UPDATES[name]
    if message is None:
        hold(update=update)
        return
    with pytest.raises(plugin.AlgorithmError) as raised:
        hold(update=update)
    assert str(raised.value).startswith("algorithm tests.e2e.tiny_algorithm:MINE: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


REST = {
    "text leaf": ({"init": started(weight=lambda s: "w")}, "init must return arrays; its.weight is a str"),
    "float count": (
        {"init": started(updates=lambda s: jnp.zeros(()))},
        "updates must be an int32 scalar, got float",
    ),
    "bits as key": (
        {"init": started(key=lambda s: jax.random.key_data(s.key))},
        "state.key must be the key that",
    ),
    "dict": (
        {"init": lambda c, s, key: {"updates": 0, "key": key}},
        "a state with the fields updates and key",
    ),
    "nothing": ({"init": lambda c, s, key: None}, "updates is missing"),
    "impure start": (
        {"init": started(weight=lambda s: s.weight + RNG.standard_normal())},
        "init must be pure",
    ),
    "policy": (
        {"policy": lambda state: {"weight": "w"}},
        "policy must return arrays; its['weight'] is a str",
    ),
    "another collector": (
        {"collector": lambda state: {"weight": state.weight, "more": state.weight}},
        "collector must return a policy of the shapes of policy's",
    ),
    "a smaller collector": (
        {"collector": lambda state: jax.tree.map(lambda x: x[:1], tiny.ALGORITHM.policy(state))},
        "collector must return a policy of the shapes of policy's",
    ),
    "first entry": ({"draw": drawn(lambda a: a[0])}, "draw must return float32[2], got float32[]"),
    "a row": ({"draw": drawn(lambda a: a[None])}, "draw must return float32[2], got float32[1, 2]"),
    "whole numbers": ({"draw": drawn(lambda a: a.astype(int))}, "draw must return float32[2], got int"),
    "a pair": ({"draw": drawn(lambda a: (a, a))}, "draw must return float32[2], got a tuple"),
    "nan": ({"draw": drawn(lambda a: a * jnp.nan)}, "draw must return finite numbers, got nan"),
    "noise of its own": (
        {"draw": drawn(lambda a: a + RNG.standard_normal())},
        "draw must be pure",
    ),
    "noise without a shape": (
        {"noise": lambda cfg, policy: 2},
        "noise must return a shape, a tuple of whole numbers, got 2",
    ),
    "no value": ({"value": lambda cfg, policy: None}, "value must return a function of an observation and"),
    "value of each entry": (
        {"value": valued(lambda q: q * jnp.ones(2))},
        "value must return float32[], got ",
    ),
    "no finite value": ({"value": valued(lambda q: q - jnp.inf)}, "value must return finite numbers"),
    "explores less": (
        {"explore": lambda c, p, action, noise: action[:1]},
        "explore must return float32[2], got float32[1]",
    ),
    "explores nowhere": (
        {"explore": lambda c, p, action, noise: action * jnp.nan},
        "explore must return finite numbers, got nan",
    ),
    "native as text": (
        {"native": lambda cfg: "best-of-4"},
        "native must return an ActionMode, got 'best-of-4'",
    ),
    "behaviour": ({"behaviour": lambda cfg: None}, "behaviour must return an ActionMode, got None"),
}


@pytest.mark.parametrize("name", REST)
def test_the_other_functions(name):
    changes, message = REST[name]
    with pytest.raises(plugin.AlgorithmError) as raised:
        hold(**changes)
    assert message in str(raised.value)


def test_a_state_may_hold_one_array_twice():
    """Such as target networks at the start: the compiled ``init`` gives each leaf memory of its own."""

    def init(cfg, spec, key):
        weight = jnp.zeros((spec.obs_size, spec.act_size))
        return tiny.State(weight, weight, key, jnp.int32(0))

    hold(init=init, update=lambda c, s, b: (s._replace(updates=s.updates + 1), {}))


@dataclasses.dataclass
class Thawed:
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Lists:
    sizes: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Demanding:
    rate: float


@dataclasses.dataclass(frozen=True)
class Asserting:
    rate: float = 0.1
    discount: float = 0.9
    replay: ReplayConfig = dataclasses.field(default_factory=ReplayConfig)

    def __post_init__(self):
        assert self.rate < 1, "rate is too high"


@dataclasses.dataclass(frozen=True)
class Nested:
    section: Thawed = dataclasses.field(default_factory=Thawed)


@dataclasses.dataclass(frozen=True)
class Taken:
    training: float = 0.1


@dataclasses.dataclass(frozen=True)
class Derived:
    rate: float = dataclasses.field(default=0.1, init=False)


RECORDS = {
    "title": ({"title": None}, "title must be a text, got None"),
    "update": ({"update": None}, "update must be a function, got None"),
    "draw": ({"draw": "a sample"}, "draw must be a function, got 'a sample'"),
    "explore": ({"explore": 0.1}, "explore must be a function or None, got 0.1"),
    "tiny": ({"tiny": "yes"}, "tiny must be a dict of settings, got 'yes'"),
    "dict as config": ({"config": {"rate": 0.1}}, "config must be a frozen dataclass"),
    "object as config": ({"config": tiny.TinyConfig()}, "config must be a frozen dataclass"),
    "not frozen": ({"config": Thawed}, "config must be a frozen dataclass"),
    "section not frozen": ({"config": Nested}, "config.section must be a frozen dataclass"),
    "list": ({"config": Lists}, "config: "),
    "no default": ({"config": Demanding}, "config: TypeError: "),
    "reserved": ({"config": Taken}, "training"),
    "not set": ({"config": Derived}, "config.rate must not be field(init=False)"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_record(name):
    changes, message = RECORDS[name]
    with pytest.raises((UsageError, plugin.AlgorithmError)) as raised:
        plugin.adopted("mine:ALGORITHM", dataclasses.replace(tiny.ALGORITHM, **changes))
    assert str(raised.value).startswith("algorithm mine:ALGORITHM: ")
    assert message in str(raised.value)


MODULE = """
from dataclasses import replace
import jax
import jax.numpy as jnp
from tests.e2e import tiny_algorithm as tiny

def raises(cfg, state, batch):
    return helper(batch)

def helper(batch):
    return batch.obs @ batch.obs

def leaves(cfg, policy, obs, noise):
    raise SystemExit(0)

@jax.jit
def compiled(state, batch):
    after, metrics = tiny.update(tiny.TinyConfig(), state, batch)
    return after._replace(updates=state.updates), metrics

def keyed(cfg, state, batch):
    after, metrics = tiny.update(cfg, state, batch)
    return after._replace(key=jax.random.fold_in(state.key, 1)), metrics

RAISES = replace(tiny.ALGORITHM, update=raises)
ARITY = replace(tiny.ALGORITHM, init=lambda spec, key: None)
LEAVES = replace(tiny.ALGORITHM, draw=leaves)
FORGETS = replace(tiny.ALGORITHM, update=lambda cfg, state, batch: compiled(state, batch))
KEYED = replace(tiny.ALGORITHM, update=keyed)
"""
RUNS = {
    "RAISES": ("update raised TypeError: ", "own_faults.py:11)"),
    "ARITY": ("init raised TypeError: ", "own_faults.py:26)"),
    "LEAVES": ("draw raised SystemExit: 0", "own_faults.py:14)"),
    "FORGETS": ("update must add 1 to state.updates, but after 11 updates it is 0",),
    "KEYED": ("update must leave state.key as it is",),
}


@pytest.mark.parametrize(("attribute", "seeds"), [*((name, "one") for name in RUNS), ("FORGETS", "two")])
def test_a_run_ends_in_one_line_that_names_the_algorithm(attribute, seeds, tmp_path, capsys, monkeypatch):
    """Also for what no trace shows, such as a count behind a function that the user compiles."""
    (tmp_path / "own_faults.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_faults", None)
    more = ["--seeds", "0,1"] if seeds == "two" else []
    assert train(tmp_path / "run", *more, algo=f"own_faults:{attribute}", steps=60) == 1
    one_line(capsys.readouterr().err, f"algorithm own_faults:{attribute}: ", *RUNS[attribute])


def test_debug_shows_the_traceback(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_faults.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_faults", None)
    assert train(tmp_path / "run", "--debug", algo="own_faults:RAISES") == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "return batch.obs @ batch.obs" in shown


def test_what_a_config_refuses_is_a_wrong_request(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        tiny, "ASSERTING", dataclasses.replace(tiny.ALGORITHM, config=Asserting), raising=False
    )
    words = ["config", "tests.e2e.tiny_algorithm:ASSERTING", "toy/bandit", "--set", "rate=3"]
    assert main(words) == 2
    one_line(capsys.readouterr().err, "fewstep: rate is too high")


def test_one_source_is_one_record():
    """What is compiled is kept under the record, so asking again may not give another."""
    name = "tests.e2e.tiny_algorithm:ALGORITHM"
    assert registry.get(name) is registry.get(name)
    assert registry.get(name).source == name
    assert registry.get("sac").source is None
