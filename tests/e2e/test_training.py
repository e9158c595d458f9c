"""The loop keeps its promises: counts, determinism, exact continuation, evaluation that leaves no trace."""

import json
import operator
import tomllib

import jax
import numpy as np
import pytest

from fewstep import deploy
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.config import ReplayConfig, resolve
from fewstep.runs import checkpoint
from fewstep.training import state_io
from fewstep.training.run.resume import read_config
from fewstep.training.trainer import Trainer
from tests.e2e.helpers import TINY, process, rows, train, without_clock


def trainer(env="toy/multigoal", **overrides):
    algorithm = registry.get(TINY)
    replay = ReplayConfig.__dataclass_fields__
    named = {f"{'replay' if n in replay else 'training'}.{n}": value for n, value in overrides.items()}
    named = {"replay.batch_size": 8, "replay.capacity": 2000} | named
    return Trainer(resolve(TINY, algorithm.config, env, seed=1, overrides=named), algorithm)


def final_state(run, steps):
    return checkpoint.load(run / "checkpoints" / f"{steps:09d}")


def same(left, right):
    assert left.keys() == right.keys()
    return all(np.array_equal(left[name], right[name]) for name in left)


def test_warm_up_and_update_counts_are_the_authors():
    """learning_starts = 100: 99 random steps, first update at step 100, then one per step."""
    learner = trainer(learning_starts=100)
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(1, spawn_key=(0,))))
    expected = [random.uniform(-1, 1, (1, 2)).astype(np.float32) for _ in range(100)]
    updates = []
    for _ in range(150):
        learner.advance()
        updates.append(learner.updates)
    stored = learner.experience.buffer.arrays()["action"]
    assert np.array_equal(stored[:99], np.concatenate(expected[:99]))
    assert not np.array_equal(stored[99:100], expected[99])
    assert updates[:99] == [0] * 99
    assert updates[99:] == list(range(1, 52))
    # The default of 10 000 in a million steps therefore gives 990 001 updates.
    assert 1_000_000 - 10_000 + 1 == 990_001


@pytest.mark.parametrize(("envs", "per_step", "updates"), [(4, 1, 4 * 26), (4, 0.25, 26), (1, 3, 101 * 3)])
def test_updates_follow_environments_and_ratio(envs, per_step, updates):
    learner = trainer(learning_starts=100, envs=envs, updates_per_step=per_step)
    while learner.env_steps < 200:
        learner.advance()
    assert learner.updates == updates
    assert int(learner.learner.state.updates) == updates


def test_time_limits_are_not_stored_as_terminal_and_successors_are_true():
    learner = trainer("Pendulum-v1", learning_starts=1000, max_episode_steps=7)
    for _ in range(30):
        learner.advance()
    stored = learner.experience.buffer.arrays()
    assert not stored["terminated"].any()
    assert learner.episodes == 4
    continued = np.flatnonzero((stored["next_obs"][:-1] == stored["obs"][1:]).all(1)) + 1
    assert sorted(set(range(1, 30)) - set(continued)) == [7, 14, 21, 28]


def test_terminal_states_are_stored_as_such():
    learner = trainer("toy/bandit", learning_starts=1000, envs=3)
    for _ in range(4):
        learner.advance()
    assert learner.experience.buffer.arrays()["terminated"].all()
    assert learner.episodes == 12


def test_interval_means_are_those_of_the_single_updates():
    """Metrics summed on the device over dispatches of three equal the mean over updates done one by one."""
    learner = trainer(learning_starts=20, updates_per_step=3)
    drawn = []
    sample = learner.experience.buffer.sample
    learner.experience.buffer.sample = lambda updates, batch, **more: (
        drawn.append(sample(updates, batch, **more)) or drawn[-1]
    )
    own = learner.learner
    state = state_io.from_arrays(own.state, state_io.to_arrays(own.state), "copy")
    for _ in range(25):
        learner.advance()
    row = learner.interval()
    losses = []
    for batches in drawn:
        for i in range(3):
            batch = jax.tree.map(operator.itemgetter(i), batches)
            state, metrics = learner.algorithm.update(learner.config.algorithm, state, batch)
            losses.append(float(metrics["actor/loss"]))
    assert len(losses) == row["updates"] == 18
    assert row["actor/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert "actor/loss" not in learner.interval()


def test_same_seed_in_two_processes_gives_the_same_bytes(tmp_path):
    words = ["train", TINY, "Pendulum-v1", "--steps", "600", "--seed", "3", "--quiet", "--set"]
    words += ["replay.learning_starts=50", "replay.batch_size=8", "training.log_every=100"]
    words += ["training.eval_every=200", "training.eval_episodes=2", "training.envs=2", "--out"]
    hashes = ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C"})
    running = [process(*words, tmp_path / str(i), env=env) for i, env in enumerate(hashes)]
    for one in running:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        first, second = (without_clock(tmp_path / str(i) / name) for i in range(2))
        assert first == second
        assert len(first) > 500
    assert (tmp_path / "0" / "config.toml").read_bytes() == (tmp_path / "1" / "config.toml").read_bytes()
    states = [final_state(tmp_path / str(i), 600) for i in range(2)]
    for group in ("state", "replay"):
        assert same(states[0].groups[group], states[1].groups[group])


def test_another_seed_gives_other_numbers(tmp_path):
    for seed in ("0", "1"):
        assert train(tmp_path / seed, "--seed", seed) == 0
    assert rows(tmp_path / "0" / "metrics.jsonl") != rows(tmp_path / "1" / "metrics.jsonl")


def test_evaluation_and_logging_leave_no_trace(tmp_path):
    never = ["training.eval_every=0", "training.log_every=1000", "training.checkpoint_every=0"]
    always = ["training.eval_every=1", "training.log_every=1", "training.checkpoint_every=7"]
    assert train(tmp_path / "never", steps=80, sets=never) == 0
    assert train(tmp_path / "always", steps=80, sets=always) == 0
    assert not rows(tmp_path / "never" / "evaluations.jsonl")
    assert len(rows(tmp_path / "always" / "evaluations.jsonl")) == 160
    left, right = (final_state(tmp_path / name, 80) for name in ("never", "always"))
    learned = [
        {name: array for name, array in saved.groups["state"].items() if name.startswith("state/")}
        for saved in (left, right)
    ]
    assert same(*learned)
    assert same(left.groups["replay"], right.groups["replay"])
    for name in ("replay", "updates", "episodes"):
        assert left.meta[name] == right.meta[name]


@pytest.mark.parametrize(
    ("cut", "options"),
    [
        pytest.param(300, {}, id="between episodes"),
        pytest.param(317, {}, id="in the middle of an episode"),
        pytest.param(321, {"envs": 3}, id="three environments"),
        pytest.param(47, {}, id="in the warm-up"),
        pytest.param(257, {"capacity": 250}, id="right after the ring has wrapped"),
    ],
)
def test_a_cut_run_goes_on_as_if_nothing_had_happened(tmp_path, cut, options):
    """toy/multigoal, episodes of 30 steps: stopped, saved and resumed anywhere equals 600 steps in one go."""
    options = {"learning_starts": 100} | options
    whole, first, second = (trainer(**options) for _ in range(3))

    def go(one, until):
        intervals = []
        while one.env_steps < until:
            one.advance()
            if one.env_steps % 150 == 0:
                intervals.append(one.interval())
        return intervals

    rows_whole = go(whole, 600)
    rows_cut = go(first, cut)
    checkpoint.save(tmp_path, first.env_steps, *first.snapshot(), keep=1)
    assert second.restore(checkpoint.load_newest(tmp_path, warn=pytest.fail)) == []
    assert rows_cut + go(second, 600) == rows_whole
    groups, meta = whole.snapshot()
    resumed_groups, resumed_meta = second.snapshot()
    assert meta == resumed_meta
    for name, arrays in groups.items():
        assert same(arrays, resumed_groups[name]), name


def test_an_episode_that_cannot_be_played_again_is_named_and_abandoned(tmp_path):
    """An environment that ignores its seed: the next episode begins, and the user hears of it."""
    first, second = (trainer("tests.e2e.stubborn:IgnoresSeeds-v0", learning_starts=100) for _ in range(2))
    for _ in range(117):
        first.advance()
    checkpoint.save(tmp_path, first.env_steps, *first.snapshot(), keep=1)
    [note] = second.restore(checkpoint.load_newest(tmp_path, warn=pytest.fail))
    assert "environment 0" in note
    assert "another observation" in note
    assert second.env_steps == 117
    second.advance()


def test_resume_drops_what_was_written_after_the_checkpoint(tmp_path):
    run = tmp_path / "run"
    assert train(run, steps=400) == 0
    newest = run / "checkpoints" / "000000400"
    (newest / "meta.json").write_text("{}")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 500, "torn')
    before = rows(run / "evaluations.jsonl")
    assert main(["resume", str(run), "--quiet"]) == 0
    assert [row["env_steps"] for row in rows(run / "metrics.jsonl")] == [100, 200, 300, 400]
    assert [row["env_steps"] for row in rows(run / "evaluations.jsonl")] == [200, 200, 400, 400]
    assert rows(run / "evaluations.jsonl")[:2] == before[:2]
    assert (run / "checkpoints" / "damaged-000000400").is_dir()
    assert "000000400 is damaged" in (run / "log.txt").read_text()


def test_a_resume_under_other_versions_says_so(tmp_path):
    run = tmp_path / "run"
    assert train(run, steps=200) == 0
    found = json.loads((run / "provenance.json").read_text())
    version = found["versions"]["numpy"]
    found["versions"]["numpy"] = "0.9"
    (run / "provenance.json").write_text(json.dumps(found))
    assert main(["resume", str(run), "--quiet", "--steps", "300"]) == 0
    note = f"other versions than at the start (numpy 0.9 then, {version} now): results may differ"
    assert note in (run / "log.txt").read_text()


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    for path in (whole, run):
        assert train(path, steps=400) == 0
    for folder in (run / "checkpoints").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert main(["resume", str(run), "--quiet"]) == 0
    assert without_clock(run / "metrics.jsonl") == without_clock(whole / "metrics.jsonl")


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    run = tmp_path / "run"
    assert train(run, steps=400) == 0
    before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    assert main(["resume", str(run), "--quiet"]) == 0
    assert {path: path.read_bytes() for path in run.rglob("*.jsonl")} == before


def test_a_smaller_total_is_refused(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, steps=400) == 0
    assert main(["resume", str(run), "--steps", "300", "--quiet"]) == 2
    assert "already has 400 steps; --steps 300 is less" in capsys.readouterr().err
    assert read_steps(run) == 400


def read_steps(run):
    return tomllib.loads((run / "config.toml").read_text())["training"]["steps"]


def test_a_checkpoint_of_another_network_size_is_refused_in_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, steps=200) == 0
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace('env = "toy/multigoal"', 'env = "toy/bandit"'))
    assert main(["resume", str(run), "--quiet"]) == 1
    assert "the checkpoint is of env 'toy/multigoal', the run's config says 'toy/bandit'" in (
        capsys.readouterr().err
    )


def test_a_toy_run_leaves_samples_of_the_declared_shapes(tmp_path):
    run = tmp_path / "run"
    assert train(run, steps=200) == 0
    actions = np.load(run / "samples" / "actions-000000200.npy")
    assert actions.dtype == np.float32
    assert actions.shape == (10_000, 2)
    assert np.abs(actions).max() <= 1
    kept = np.load(run / "samples" / "trajectories-000000200.npz")
    assert kept["positions"].shape == (64, 31, 2)
    assert kept["goals"].shape == (64,)
    assert np.isfinite(kept["positions"][:, 0]).all()


def test_the_run_says_where_it_came_from(tmp_path):
    run = tmp_path / "run"
    assert train(run, steps=60) == 0
    found = json.loads((run / "provenance.json").read_text())
    from fewstep.runs.layout import RunDir

    config, _ = read_config(RunDir.open(run))
    assert found["config_sha256"] == config.sha256
    assert found["device"].startswith("cpu")
    assert "mujoco" not in found["versions"], "a toy does not depend on it"
    policy = json.loads((run / "policy" / "policy.json").read_text())
    assert policy["spec"] == {"obs_size": 2, "act_size": 2, "image": None}
    assert policy["native_actions"] == "best-of-4"


def test_one_update_and_one_action_per_interval_are_timed(tmp_path):
    run = tmp_path / "run"
    assert train(run, steps=200, sets=["training.log_every=20"]) == 0
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = [all(row.get(f"wall_{what}_ms", 0) > 0 for what in ("act", "update")) for row in found]
    learning = [row["updates"] > 0 for row in found]
    first = learning.index(True)
    # Not before the first update, which compiles; the interval after it at the latest.
    assert not any(timed[:first])
    assert all(timed[first + 1 :])


def test_evaluate_repeats_the_rows_of_training(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, steps=200) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = rows(run / "evaluations.jsonl")
    for row, again in zip(kept, printed, strict=True):
        again.pop("wall_seconds")
        assert again == row
    assert main(["evaluate", str(run), "--json", "--seed", "7", "--actions", "mode"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["actions"] == "mode"
    assert other["seeds"] != kept[0]["seeds"]


def test_a_corrected_name_of_the_environment_is_exported(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, steps=100) == 0
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace('"toy/multigoal"', '"my_tasks:Goals-v0"'))
    capsys.readouterr()
    assert main(["export", str(run), "--to", "numpy"]) == 0
    assert deploy.load(capsys.readouterr().out.split()[0]).description.env == "my_tasks:Goals-v0"


def test_atoms_that_are_far_wider_than_divided_returns_are_named(tmp_path):
    divided = ["replay.reward=std", "critic.head=categorical"]
    grid = ["critic.v_min=-5", "critic.v_max=5"]
    for name, sets in (("wide", divided), ("fits", divided + grid), ("raw", divided[1:])):
        assert train(tmp_path / name, steps=40, sets=sets, algo="sac") == 0
        text = (tmp_path / name / "log.txt").read_text()
        assert ("set critic.v_min=-5 critic.v_max=5" in text) == (name == "wide")


def test_a_run_too_short_to_learn_says_so(tmp_path):
    assert train(tmp_path / "run", steps=40) == 0
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "no update will happen: the first could be at step 50 of 40 (replay.learning_starts)" in text
