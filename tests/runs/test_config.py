"""Settings: each layer wins over the one before, wrong values are one line, TOML gives back its input."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewstep import habits
from fewstep.config import (
    ReplayConfig,
    RunConfig,
    TrainingConfig,
    from_toml,
    known_settings,
    resolve,
    settings,
)
from fewstep.errors import UsageError


@dataclass(frozen=True)
class Critic:
    atoms: int = 101
    support: tuple[float, float] = (-10.0, 10.0)
    hidden: tuple[int, ...] = (256, 256)
    twin: Literal["min", "mean"] = "min"
    layer_norm: bool = True
    clip: float | None = None
    label: str = "x"

    def __post_init__(self):
        if self.support[0] >= self.support[1]:
            raise UsageError(f"critic.support must be increasing, got {self.support}")


@dataclass(frozen=True)
class Config:
    discount: float = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    critic: Critic = field(default_factory=Critic)


PRESET = """\
# For tests.
[training]
steps = 100
[replay]
batch_size = 8
[critic]
atoms = 51
twin = "mean"
[for."Half*".critic]
atoms = 41
[for."HalfCheetah-v4"]
discount = 0.5
[for."HalfCheetah-v4".critic]
atoms = 31
support = [-20, 20.0]
[for."Ant-*".training]
steps = 7
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "small.toml").write_text(PRESET)
    return tmp_path


def make(root, env="HalfCheetah-v4", **arguments):
    return resolve("algo", Config, env, preset_root=root, **arguments)


def test_defaults_without_a_preset_file(root):
    config = make(root)
    assert config.algorithm == Config()
    assert config.training == TrainingConfig()


def test_each_layer_wins_over_the_one_before(root):
    file = root / "mine.toml"
    file.write_text('[critic]\natoms = 21\nlabel = "file"\n[training]\nsteps = 200\n')
    config = make(root, preset="small", file=file, sets=["training.steps=300"], overrides={"discount": 1})
    assert config.algorithm.critic.twin == "mean"  # preset over default
    assert config.algorithm.critic.support == (-20.0, 20.0)  # environment section over preset
    assert config.algorithm.critic.atoms == 21  # file over environment section
    assert config.training.steps == 300  # --set over file
    assert config.algorithm.discount == 1.0  # overrides over all
    assert isinstance(config.algorithm.discount, float)
    assert config.replay.batch_size == 8


def test_environment_sections_apply_in_file_order_and_only_where_they_match(root):
    assert make(root, preset="small").algorithm.critic.atoms == 31
    assert make(root, "HalfCheetah-v5", preset="small").algorithm.critic.atoms == 41
    assert make(root, "Hopper-v4", preset="small").algorithm.critic.atoms == 51
    assert make(root, "Ant-v4", preset="small").training.steps == 7


def test_settings_that_depend_on_each_other_are_checked_together(root):
    config = make(root, sets=["critic.support=20,30"])
    assert config.algorithm.critic.support == (20.0, 30.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("critic.atoms=51", 51),
        ("critic.atoms=1e2", 100),
        ("critic.support=-5,5", (-5.0, 5.0)),
        ("critic.support=[-5, 5]", (-5.0, 5.0)),
        ("critic.hidden=16", (16,)),
        ("critic.hidden=", ()),
        ("critic.twin=mean", "mean"),
        ("critic.layer_norm=false", False),
        ("critic.layer_norm=True", True),
        ("critic.clip=2", 2.0),
        ("critic.clip=none", None),
        ("critic.label=3", "3"),
        ("critic.label=a=b", "a=b"),
        ("discount=0.5", 0.5),
    ],
)
def test_text_is_read_by_the_type_of_its_setting(text, value):
    name = text.split("=")[0]
    got = settings.assignments([text], known_settings(Config))[name]
    assert got == value
    assert type(got) is type(value)


def test_the_words_of_other_libraries_are_known():
    known = ("actor.learning_rate", "critic.learning_rate", "discount")
    assert habits.named_here("actor.lr", known) == ["actor.learning_rate"]
    assert habits.named_here("learning_rate", known) == ["actor.learning_rate", "critic.learning_rate"]
    assert habits.named_here("atoms", known) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("critic.atom=51", "unknown setting 'critic.atom'; did you mean 'critic.atoms'?"),
        ("gamma=0.9", "unknown setting 'gamma'; here that is set by discount"),
        ("gradient_steps=2", "unknown setting 'gradient_steps'; here that is set by replay.updates_per_step"),
        ("training.step=5", "did you mean 'training.steps'?"),
        ("critic.atoms=many", "critic.atoms must be a whole number; got 'many'"),
        ("critic.atoms=1.5", "must be a whole number; got 1.5"),
        ("critic.atoms=true", "must be a whole number; got True"),
        ("critic.layer_norm=1", "must be true or false; got 1"),
        ("critic.twin=max", "must be one of min, mean; got 'max'"),
        ("critic.support=1", "must have 2 entries; got 1"),
        ("critic.clip=x", "must be a number or none"),
        ("critic.atoms", "not of the form name=value"),
        ("=3", "not of the form name=value"),
    ],
)
def test_bad_text_is_one_line_that_names_the_setting(text, message):
    with pytest.raises(UsageError) as error:
        settings.assignments([text], known_settings(Config))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training.steps", 0),
        ("training.steps", -5),
        ("training.envs", 0),
        ("training.eval_every", -1),
        ("training.checkpoint_every", -1),
        ("training.keep_checkpoints", 0),
        ("training.eval_modes", ()),
        ("training.max_episode_steps", 0),
        ("training.eval_max_steps", 0),
        ("training.env_restarts", 1),
        ("replay.batch_size", -1),
        ("replay.learning_starts", 0),
        ("replay.updates_per_step", 0.5),
        ("replay.learning_starts", 2**31),
        ("replay.updates_per_step", 0.0),
        ("replay.updates_per_step", float("nan")),
        ("replay.capacity", 255),
    ],
)
def test_impossible_settings_of_the_loop_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        resolve("algo", Config, "Pendulum-v1", overrides={name: value})


def test_updates_per_iteration_counts_all_environments():
    assert ReplayConfig(updates_per_step=0.25).updates_per_iteration(4) == 1
    assert ReplayConfig(updates_per_step=2).updates_per_iteration(4) == 8
    for envs, share in ((100, 0.07), (100, 0.29), (49, 1 / 49)):  # no binary fractions
        assert ReplayConfig(updates_per_step=share).updates_per_iteration(envs) == round(envs * share)
    with pytest.raises(UsageError, match=r"training\.envs \(300\) is larger than replay\.capacity \(256\)"):
        resolve("algo", Config, "Pendulum-v1", overrides={"training.envs": 300, "replay.capacity": 256})


def test_seed_must_fit_in_31_bits():
    with pytest.raises(UsageError, match="seed must be from 0"):
        RunConfig("a", "b", -1, "default")


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.array(3), 3])
def test_seeds_of_numpy_become_pythons(seed):
    config = RunConfig("a", "b", seed, "default", algorithm=Config())
    assert type(config.seed) is int
    assert "seed = 3" in config.to_toml()


@pytest.mark.parametrize(
    "seed",
    [None, 1.0, "1", True, np.float64(1), [1], np.arange(2), 2**31, -1, 10**5000],
    ids=lambda seed: type(seed).__name__,  # no id can be made of so large a number
)
def test_other_seeds_are_refused_in_one_line(seed):
    with pytest.raises(UsageError, match="seed must be") as caught:
        RunConfig("a", "b", seed, "default")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("critic.atoms", np.int64(51), 51),
        ("critic.atoms", np.array(51), 51),
        ("critic.atoms", np.float32(51), 51),
        ("critic.clip", np.float32(0.5), 0.5),
        ("critic.layer_norm", np.bool_(False), False),
        ("critic.hidden", np.array([8, 9]), (8, 9)),
        ("critic.hidden", [np.int32(8)], (8,)),
        ("critic.support", (np.float32(-1), 2), (-1.0, 2.0)),
        ("critic.twin", np.str_("mean"), "mean"),
        ("training.envs", np.uint8(2), 2),
    ],
)
def test_values_of_numpy_become_pythons(root, name, value, wanted):
    config = make(root, overrides={name: value})
    section, leaf = name.split(".")
    got = getattr(config.training if section == "training" else config.algorithm.critic, leaf)
    assert got == wanted
    assert type(got) is type(wanted)
    assert from_toml(config.to_toml(), lambda algo: Config) == config


@pytest.mark.parametrize(
    "value",
    [None, "x", 1j, np.array([1, 2]), np.array([[1]]), object(), 10**5000, float("nan"), 2**63, b"1"],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused_in_one_line(root, value):
    with pytest.raises(UsageError, match=r"override: critic\.atoms must be") as caught:
        make(root, overrides={"critic.atoms": value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


NESTED = {"critic": {"atoms": 51, "twin": "mean"}, "training.envs": 2}
DOTTED = {"critic.atoms": 51, "critic.twin": "mean", "training": {"envs": 2}}


def test_settings_may_be_dotted_or_nested_everywhere(root):
    (root / "algo" / "dotted.toml").write_text(
        '"critic.atoms" = 51\ncritic.twin = "mean"\n"training.envs" = 2\n'
        '[for."Half*"]\n"critic.hidden" = [8]\n'
    )
    wanted = make(root, overrides=NESTED | {"critic.hidden": [8]})
    assert make(root, overrides=DOTTED | {"critic.hidden": [8]}).algorithm == wanted.algorithm
    preset = make(root, preset="dotted")
    file = make(root, file=root / "algo" / "dotted.toml")
    for config in (preset, file):
        assert (config.algorithm, config.training) == (wanted.algorithm, wanted.training)


def test_a_setting_given_in_both_ways_at_once_is_refused(root):
    with pytest.raises(UsageError, match=r"override: critic\.atoms is given twice"):
        make(root, overrides={"critic.atoms": 51, "critic": {"atoms": 52}})


@pytest.mark.parametrize(
    ("text", "number"),
    [("100000", 100_000), ("100_000", 100_000), ("1e5", 100_000), (" 1E5 ", 100_000), ("+7", 7), ("007", 7)],
)
def test_a_whole_number_is_written_in_one_way_everywhere(text, number):
    assert settings.whole(text, "it") == number
    assert settings.assignments([f"training.steps={text}"], known_settings(Config)) == {
        "training.steps": number
    }


@pytest.mark.parametrize(
    "text", ["", "x", "1.5", ".5", "1e-3", "inf", "nan", "true", "[1]", "1e30", "9" * 5000]
)
def test_what_is_no_whole_number_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="it must be") as caught:
        settings.whole(text, "it")
    assert "\n" not in str(caught.value)


def test_numbers_may_begin_with_their_point():
    assert settings.assignments(["discount=.99"], known_settings(Config)) == {"discount": 0.99}


def test_a_text_comes_through_as_it_is_written():
    """``to_text`` is how an experiment hands settings to its runs."""
    for text in ("plain", "with space", 'a "quote"', "3", "none at all"):
        written = settings.to_text(text)
        assert settings.assignments([f"critic.label={written}"], known_settings(Config)) == {
            "critic.label": text
        }


def test_unknown_preset_names_the_nearest(root):
    with pytest.raises(UsageError, match=r"unknown preset of algo 'smal'; did you mean 'small'\?"):
        make(root, preset="smal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[critic\n", "not valid TOML"),
        ("[critic]\natomz = 3\n", "mine.toml: unknown setting 'critic.atomz'"),
        ('algo = "other"\n', "is for 'other', not for 'algo'"),
        ("seed = 3\n", "seed is an argument of its own and no setting; take it out"),
        ("for = 3\n", "holds tables named by environment"),
        ("[for]\nx = 3\n", "holds tables named by environment"),
        ('[for."Zzz".critic]\natomz = 3\n', "for 'Zzz': unknown setting"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(root, text, message):
    file = root / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        make(root, file=file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(root):
    with pytest.raises(UsageError, match=r"cannot read .*absent\.toml"):
        make(root, file=root / "absent.toml")


numbers = st.floats(allow_nan=False, allow_infinity=False)  # settings are finite
names = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    names,
    names.filter(lambda text: text != "none"),
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(-(2**62), 2**62)).map(tuple),
    numbers,
    st.none() | numbers,
)
def test_toml_gives_back_an_equal_config(env, label, seed, hidden, discount, clip):
    critic = Critic(label=label, hidden=hidden, clip=clip)
    config = RunConfig("algo", env, seed, "small", TrainingConfig(steps=5), Config(discount, critic=critic))
    text = config.to_toml()
    again = from_toml(text, lambda name: Config)
    assert again == config
    assert again.to_toml() == text
    assert again.sha256 == config.sha256


def test_the_hash_sees_every_setting():
    base = RunConfig("algo", "env", 0, "small", algorithm=Config())
    other = RunConfig("algo", "env", 0, "small", algorithm=Config(critic=Critic(atoms=100)))
    assert base.sha256 != other.sha256


def test_an_algorithm_may_not_take_a_name_of_the_run():
    @dataclass(frozen=True)
    class Clash:
        seed: int = 0

    with pytest.raises(TypeError, match="reserved"):
        known_settings(Clash)


def test_earlier_names_of_the_replay_buffers_settings_still_mean_them():
    given = {"training.learning_starts": 5, "training": {"replay_capacity": 900}}
    config = resolve("algo", Config, "Pendulum-v1", overrides=given, sets=["training.batch_size=7"])
    assert (config.replay.learning_starts, config.replay.capacity, config.replay.batch_size) == (5, 900, 7)
    both = {"training.batch_size": 7, "replay.batch_size": 8}
    with pytest.raises(UsageError, match=r"replay\.batch_size is given twice"):
        resolve("algo", Config, "Pendulum-v1", overrides=both)
    with pytest.raises(UsageError, match=r"unknown setting 'training\.batch_size'"):
        settings.assignments(["training.batch_size=7"], {"training.steps": int})
