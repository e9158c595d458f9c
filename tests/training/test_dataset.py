"""``replay.dataset``: the phase before the first step, the mixture, exact resume, and what is refused."""

import json
import shutil

import numpy as np
import pytest

import fewstep
from fewstep import data, envs
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.cli.common import resolved
from fewstep.cli.main import parser
from fewstep.config import ReplayConfig, resolve
from fewstep.config.replay import DatasetConfig
from fewstep.data import Folder, Tape
from fewstep.envs.interface import Interface
from fewstep.errors import FewstepError, UsageError
from fewstep.experiments import plan, spec
from fewstep.runs import checkpoint, segments
from fewstep.runs.layout import RunDir
from fewstep.training.collect.experience import Replay
from fewstep.training.collect.mixture import mixed, places
from fewstep.training.collect.return_scale import ReturnScale
from fewstep.training.run import loop
from fewstep.training.several.cohort import Cohort
from fewstep.training.signals import Interrupted
from fewstep.training.trainer import Trainer
from fewstep.types import Spec, Transition
from tests.e2e.helpers import TINY, one_line, process, rows, train
from tests.e2e.test_cohort import TOLERANCE, difference
from tests.experiments.common import wait_for
from tests.faults.test_resume_everything import described
from tests.few import slow

UPDATES = 30
OFF_POLICY = [name for name in registry.BUILT_IN if registry.get(name).rollout is None]


def record(path, episodes=4, seed=0):
    """Episodes of random actions on the four goals, each of at most ten steps."""
    vector = envs.make("toy/multigoal", max_episode_steps=10)
    rng, folder, tape = np.random.default_rng(seed), Folder(path), Tape()
    for number in range(episodes):
        obs, ended = vector.reset([seed + number]), False
        tape.begin(obs[0])
        while not ended:
            action = rng.uniform(-1, 1, (1, 2)).astype(np.float32)
            result = vector.step(action)
            tape.step(action[0], result.reward[0], result.terminated[0], result.obs[0])
            ended = bool(result.terminated[0] or result.truncated[0])
        folder.write(str(number), tape.episode(Interface(vector)))
    vector.close()
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "d")


def trainer(folder, name=TINY, seed=2, **more):
    algorithm = registry.get(name)
    settings = {
        "replay.learning_starts": 10,
        "replay.batch_size": 8,
        "replay.capacity": 100,
        "replay.dataset.path": folder,
        "replay.dataset.updates": UPDATES,
    }
    overrides = dict(algorithm.tiny) | settings | more
    return Trainer(
        resolve(name, algorithm.config, "toy/multigoal", seed=seed, overrides=overrides), algorithm
    )


def watched(one, advances):
    """The data of the updates of so many calls of ``advance``, and (steps, updates) after each."""
    seen, counts, learn = [], [], one.learner.learn

    def learning(batch):
        seen.append(batch)
        learn(batch)

    one.learner.learn = learning
    for _ in range(advances):
        one.advance()
        counts.append((one.env_steps, one.updates))
    return seen, counts


def loaded(folder):
    """The data by themselves."""
    vector = envs.make("toy/multigoal")
    found = data.load(folder, Interface(vector))
    vector.close()
    return found


def recorded(folder, batch):
    """Which rows of a batch are from the data (a random state of the toy is never met twice)."""
    known = {row.tobytes() for row in loaded(folder).steps.obs}
    return np.array([[row.tobytes() in known for row in rows] for rows in batch.obs])


# ------------------------------------------------------------------------------------ the mixture


def test_rows_are_mixed_evenly():
    """Every stretch of a batch has about the share of the whole: DIPO and others take a part of it."""
    assert places(2, 2).tolist() == [0, 2, 1, 3]
    assert places(1, 3).tolist() == [1, 0, 2, 3]
    assert places(0, 3).tolist() == [0, 1, 2]
    for first, second in ((64, 192), (5, 251), (128, 128)):
        order = places(first, second)
        assert sorted(order) == list(range(first + second))
        share = np.cumsum(order < first) - np.arange(1, first + second + 1) * first / (first + second)
        assert np.abs(share).max() <= 1.0


def test_a_mixed_batch_keeps_rows_together():
    def made(start, count):
        k = np.arange(start, start + count, dtype=np.float32)[None]
        wide = k[..., None]
        return Transition(wide, wide, k, k > 2, wide + 0.5, k.astype(np.int32))

    batch = mixed(made(0, 2), made(10, 4))
    assert sorted(batch.reward[0]) == [0, 1, 10, 11, 12, 13]
    for field in (batch.obs[..., 0], batch.action[..., 0], batch.next_obs[..., 0] - 0.5, batch.number):
        np.testing.assert_array_equal(field, batch.reward)
    assert batch.discount is None


def test_first_updates_on_the_data_alone_then_a_share_of_each_batch(folder):
    one = trainer(folder, **{"replay.dataset.share": 0.25})
    seen, counts = watched(one, UPDATES + 20)
    assert counts[:UPDATES] == [(0, k) for k in range(1, UPDATES + 1)]
    assert counts[UPDATES + 8] == (9, UPDATES)
    assert counts[-1] == (20, UPDATES + 11)
    assert all(recorded(folder, batch).all() for batch in seen[:UPDATES])
    assert [int(recorded(folder, batch).sum()) for batch in seen[UPDATES:]] == [2] * 11
    one.close()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_shares_at_the_ends(folder, share, count):
    one = trainer(folder, **{"replay.dataset.share": share, "replay.dataset.updates": 0})
    seen, counts = watched(one, 15)
    assert counts[0] == (1, 0)
    assert [int(recorded(folder, batch).sum()) for batch in seen] == [count] * 6
    one.close()


def test_every_transition_of_the_data_is_drawn_alike(folder):
    one = trainer(folder)
    drawn = np.concatenate([one.experience.offline(0).obs for _ in range(2000)])
    dataset = loaded(folder)
    size = len(dataset)
    index = {row.tobytes(): place for place, row in enumerate(dataset.steps.obs)}
    counts = np.bincount([index[row.tobytes()] for row in drawn.reshape(-1, 2)], minlength=size)
    mean = 16_000 / size
    assert ((counts - mean) ** 2 / mean).sum() < size + 4 * np.sqrt(2 * size)  # chi-squared
    one.close()


def test_several_updates_in_a_dispatch_and_a_rest(folder):
    """Four environments, an update each: dispatches of 4, the last one of the phase smaller."""
    one = trainer(folder, **{"training.envs": 4})
    seen, counts = watched(one, 8)
    assert [len(batch.reward) for batch in seen] == [4] * 7 + [2]
    assert counts[-1] == (0, UPDATES)
    one.close()


def test_windows_of_the_data_end_with_their_episodes(folder):
    vector = envs.make("toy/multigoal")
    dataset = data.load(folder, Interface(vector))
    cfg = ReplayConfig(batch_size=64, n_step=4, dataset=DatasetConfig(path=folder, updates=5))
    batch = Replay(cfg, 1, vector.spec, 0, discount=0.9, dataset=dataset).offline(0)
    steps, ends = dataset.steps, np.append(np.flatnonzero(dataset.first)[1:], len(dataset))
    place = {row.tobytes(): number for number, row in enumerate(steps.obs)}
    for update, row in np.ndindex(1, 64):
        start = place[batch.obs[update, row].tobytes()]
        stop = min(start + 4, ends[np.searchsorted(ends, start, "right")])
        gammas = 0.9 ** np.arange(stop - start)
        assert batch.reward[update, row] == pytest.approx(gammas @ steps.reward[start:stop], rel=1e-6)
        assert batch.discount[update, row] == pytest.approx(0.9 ** (stop - start))
        assert batch.terminated[update, row] == steps.terminated[stop - 1]
        np.testing.assert_array_equal(batch.next_obs[update, row], steps.next_obs[stop - 1])
    vector.close()


def test_the_scale_of_rewards_begins_with_the_data(folder):
    one = trainer(folder, **{"replay.reward": "std"})
    dataset, by_hand = loaded(folder), ReturnScale("std", 0.9, 1)
    steps, last = dataset.steps, np.append(dataset.first[1:], True)
    for reward, ended in zip(steps.reward, last, strict=True):
        by_hand.observe(np.array([reward]), np.array([ended]))
    assert one.experience.metrics()["reward/divisor"] == by_hand.divisor != 1.0
    seen, _ = watched(one, 1)
    divided = {float(np.float32(r / by_hand.divisor)) for r in steps.reward}
    assert set(seen[0].reward.ravel().tolist()) <= divided
    assert one.largest_reward == np.abs(steps.reward).max()
    one.close()


def test_numbers_of_data_and_ring_never_meet(folder):
    """An action memory of ``replay.capacity`` rows has one for each transition held."""
    vector = envs.make("toy/multigoal")
    dataset = data.load(folder, Interface(vector))
    size, capacity = len(dataset), len(dataset) + 7
    cfg = ReplayConfig(capacity=capacity, batch_size=8, dataset=DatasetConfig(path=folder))
    ring = Replay(cfg, 1, vector.spec, 0, numbered=True, dataset=dataset)
    assert ring.buffer.capacity == 7
    owners = np.full(capacity, -1)
    for step in range(20):
        [number] = ring._own(np.array([step], np.int32))
        assert size <= number % capacity
        assert owners[number % capacity] == (-1 if step < 7 else ring._own(np.array([step - 7]))[0])
        owners[number % capacity] = number
    assert (owners[:size] == -1).all()
    plain = Replay(ReplayConfig(capacity=7, batch_size=7), 1, vector.spec, 0, numbered=True)
    np.testing.assert_array_equal(plain._own(np.arange(40, dtype=np.int32)), np.arange(40))
    full = ReplayConfig(capacity=size, batch_size=8, dataset=DatasetConfig(path=folder))
    with pytest.raises(UsageError, match=rf"capacity \({size}\) has no room beside the data's {size}"):
        Replay(full, 1, vector.spec, 0, numbered=True, dataset=dataset)
    vector.close()


# --------------------------------------------------------------------------------- resume, seeds


def check_resume(folder, tmp_path, monkeypatch, name, **more):
    """Cut in the phase on data, at its end, in the warm-up and later."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 500)
    whole = trainer(folder, name, **more)
    for advances in range(1, 91):
        whole.advance()
        if advances in (4, UPDATES, UPDATES + 3, 60):
            checkpoint.save(tmp_path / str(advances), whole.env_steps, *whole.snapshot(), keep=1)
    for cut in tmp_path.iterdir():
        resumed = trainer(folder, name, **more)
        [saved] = cut.glob("0*")
        assert resumed.restore(checkpoint.load(saved)) == []
        for _ in range(90 - int(cut.name)):
            resumed.advance()
        (found, meta), (expected, expected_meta) = described(resumed), described(whole)
        assert [name for name in expected if found[name] != expected[name]] == [], cut.name
        assert json.dumps(meta) == json.dumps(expected_meta)
        resumed.close()
    whole.close()


def test_resume_is_exact(folder, tmp_path, monkeypatch):
    check_resume(folder, tmp_path, monkeypatch, TINY)


@pytest.mark.parametrize("name", ["sac", *slow(*(name for name in OFF_POLICY if name != "sac"))])
def test_resume_is_exact_with_all_else(name, folder, tmp_path, monkeypatch):
    more = {"replay.n_step": 3, "training.envs": 2, "replay.reward": "bounded", "replay.overlap": True}
    check_resume(folder, tmp_path, monkeypatch, name, **more)


def test_seeds_side_by_side_learn_what_each_learns_alone(folder):
    alone, together = ([trainer(folder, seed=seed) for seed in range(3)] for _ in range(2))
    cohort = Cohort(together)
    for _ in range(UPDATES + 20):
        assert cohort.advance() == {}
        assert cohort.updates == together[0].updates
        for one in alone:
            one.advance()
    cohort.part()
    for one, other in zip(alone, together, strict=True):
        assert (one.env_steps, one.updates) == (other.env_steps, other.updates) == (20, UPDATES + 11)
        assert difference(one, other) < TOLERANCE
    for one in (*alone, *together):
        one.close()


# ---------------------------------------------------------------------------------- recorded runs

SETS = ("replay.dataset.updates=250", "training.eval_every=200", "training.checkpoint_every=100")


def test_the_record_of_a_run(folder, tmp_path, capsys):
    """Rows before the first step differ in their updates; an evaluation and a checkpoint end the phase."""
    run = tmp_path / "run"
    assert train(run, "--dataset", folder, steps=200, sets=SETS) == 0
    found = [(row["env_steps"], row["updates"]) for row in rows(run / "metrics.jsonl")]
    assert found == [(0, 50), (0, 150), (0, 250), (100, 301), (200, 401)]
    found = [(row["env_steps"], row["updates"]) for row in rows(run / "evaluations.jsonl")]
    assert found == [(0, 50), (0, 50), (0, 250), (0, 250), (200, 401), (200, 401)]
    assert sorted(path.name for path in (run / "checkpoints").glob("0*")) == ["000000100", "000000200"]
    log = (run / "log.txt").read_text()
    assert log.startswith("250 updates on recorded data before the first step: 4 episodes, ")
    assert "step 0 / 200  updates 150  return -" in log
    kept = json.loads((run / "provenance.json").read_text())["dataset"]
    assert (kept["source"], kept["episodes"]) == (folder, 4)
    assert main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    assert "problem" not in capsys.readouterr().err


def interrupted(run, folder, updates):
    """A run that a signal stops after so many updates; it is saved."""
    words = ["train", TINY, "toy/multigoal", "--steps", "200", "--dataset", folder, "--set"]
    fast = ["replay.learning_starts=50", "replay.batch_size=8", "training.log_every=100"]
    config = resolved(parser().parse_args([*words, *fast, "training.eval_episodes=2", *SETS]))
    one, directory = loop.start(config, registry.get(TINY), run)

    def check():
        if one.updates == updates:
            raise Interrupted(2)

    class Quiet:
        def __init__(self):
            self.notes = []

        def note(self, text):
            self.notes.append(text)

        def step(self, env_steps, updates):
            pass

        interval = evaluated = saved = lambda self, row: None

    reporter = Quiet()
    with directory.locked(), pytest.raises(Interrupted):
        loop.train(one, directory, reporter, check)
    one.close()
    return reporter.notes


def test_a_run_stopped_in_the_phase_goes_on_as_if_it_had_not_been(folder, tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(whole, "--dataset", folder, steps=200, sets=SETS) == 0
    assert interrupted(cut, folder, 120)[-1].startswith("saved at update 120 on recorded data; continue with")
    assert RunDir.open(cut).checkpoints.joinpath("000000000").is_dir()
    with (cut / "metrics.jsonl").open(
        "a"
    ) as file:  # as if it had been killed later, after its last checkpoint
        file.write('{"env_steps": 0, "updates": 150}\n')
    assert main(["resume", str(cut), "--quiet"]) == 0
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert rows(cut / name) == rows(whole / name)
    assert "resumed at update 120 on recorded data\n" in (cut / "log.txt").read_text()
    left, right = (checkpoint.load(run / "checkpoints" / "000000200") for run in (whole, cut))
    for name, array in left.groups["state"].items():
        np.testing.assert_array_equal(array, right.groups["state"][name])
    capsys.readouterr()


def test_seeds_in_one_process_write_what_each_writes_alone(folder, tmp_path):
    together, alone = tmp_path / "all", tmp_path / "alone"
    words = ["train", TINY, "toy/multigoal", "--seeds", "0,1", "--steps", "150", "--quiet", "--out"]
    sets = [
        "replay.learning_starts=50",
        "replay.batch_size=8",
        "training.log_every=100",
        "training.eval_every=0",
    ]
    more = ["--dataset", folder, "--set", *sets, "replay.dataset.updates=150"]
    assert main([*words, str(together), *more]) == 0
    assert (
        train(
            alone,
            "--dataset",
            folder,
            "--seed",
            "1",
            steps=150,
            sets=[*sets[2:], "replay.dataset.updates=150"],
        )
        == 0
    )
    one, other = rows(together / "seed-1" / "metrics.jsonl"), rows(alone / "metrics.jsonl")
    assert [row["updates"] for row in one] == [row["updates"] for row in other] == [50, 150, 201, 251]
    for left, right in zip(one, other, strict=True):
        assert all(
            right[name] == (value and pytest.approx(value, 1e-3, 1e-4)) for name, value in left.items()
        )


def test_a_divergence_in_the_phase_is_found_again(folder, tmp_path, capsys):
    run = tmp_path / "run"
    sets = [
        "replay.dataset.updates=200",
        "poison_at=130",
        "training.checkpoint_every=60",
        "training.eval_every=0",
    ]
    assert train(run, "--dataset", folder, sets=sets) == 1
    file = run / "crash" / "divergence.json"
    one_line(capsys.readouterr().err, f"fewstep replay-crash {file}")
    assert main(["replay-crash", str(file)]) == 0
    assert "update 131 (environment step 0) is the first" in capsys.readouterr().out


def test_other_data_at_a_resume_are_refused(folder, tmp_path, capsys):
    """With a checkpoint, and without one, when the provenance alone knows."""
    path, run, begun = tmp_path / "d", tmp_path / "run", tmp_path / "begun"
    shutil.copytree(folder, path)
    assert train(run, "--dataset", str(path), steps=60, sets=["training.eval_every=0"]) == 0
    shutil.copytree(run, begun)
    shutil.rmtree(begun / "checkpoints")
    assert main(["resume", str(run), "--steps", "70", "--quiet"]) == 0
    (path / "3.npz").unlink()
    for one in (run, begun):
        capsys.readouterr()
        assert main(["resume", str(one), "--steps", "80", "--quiet"]) == 1
        one_line(
            capsys.readouterr().err, f"the data of {path} are not those that the run was started with (SHA-"
        )
    with pytest.raises(FewstepError, match="are not those that the run was started with"):
        fewstep.load(run)
    shutil.rmtree(path)
    assert main(["resume", str(run), "--steps", "80", "--quiet"]) == 2
    one_line(capsys.readouterr().err, f"{path} is not a folder of episodes")
    assert main(["evaluate", str(run), "--episodes", "1", "--actions", "mode"]) == 0  # it needs no data


def test_a_killed_run_goes_on(folder, tmp_path):
    """By a signal nothing can answer, somewhere in the phase on data."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    sets = ["replay.dataset.updates=1500", "training.log_every=100", "training.checkpoint_every=100"]
    sets += ["replay.learning_starts=20", "replay.batch_size=8", "training.eval_every=0"]
    words = ["train", TINY, "toy/multigoal", "--steps", "30", "--quiet", "--dataset", folder, "--set", *sets]
    child = process(*words, "--out", cut)

    def begun():
        assert child.poll() is None, child.stderr.read()
        return (cut / "metrics.jsonl").exists() and (cut / "metrics.jsonl").read_text().count("\n") >= 3

    wait_for(begun)
    child.kill()
    child.communicate()
    assert main(["resume", str(cut), "--quiet"]) == 0
    assert main([*words, "--out", str(whole)]) == 0
    assert rows(cut / "metrics.jsonl") == rows(whole / "metrics.jsonl")


# --------------------------------------------------------------------------------- ways to ask for it


def test_ppo_is_refused(folder, tmp_path, capsys):
    assert main(["train", "ppo", "toy/bandit", "--dataset", folder, "--out", str(tmp_path / "r")]) == 2
    one_line(
        capsys.readouterr().err, "ppo learns from its own steps alone; --dataset needs an algorithm with"
    )
    assert not (tmp_path / "r").exists()


def test_data_that_do_not_fit_leave_no_run(folder, tmp_path, capsys):
    assert train(tmp_path / "r", "--dataset", folder, env="Pendulum-v1") == 2
    one_line(capsys.readouterr().err, "0.npz: observations have 2 numbers each, those of Pendulum-v1 3")
    assert train(tmp_path / "r", "--dataset", str(tmp_path / "none")) == 2
    one_line(capsys.readouterr().err, "none is not a folder of episodes")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["updates", "share"])
def test_settings_without_data_are_refused(name):
    with pytest.raises(UsageError, match=rf"replay\.dataset\.{name} needs replay\.dataset\.path"):
        ReplayConfig(dataset=DatasetConfig(**{name: 1}))


def test_a_relative_folder_is_kept_whole(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def path(*words):
        return resolved(parser().parse_args(["train", "sac", "toy/bandit", *words])).replay.dataset.path

    assert path("--dataset", "d") == str(tmp_path / "d")
    assert path("--dataset", "minari:x/y-v0") == "minari:x/y-v0"
    assert path() is None


def test_the_python_api_starts_from_data(folder):
    settings = {"replay.learning_starts": 10, "replay.batch_size": 8, "training.log_every": 20}
    model = fewstep.Model(
        TINY, "toy/multigoal", **settings, replay={"dataset": {"path": folder, "updates": 50}}
    )
    found = []
    model.learn(30, callback=lambda row: found.append((row["env_steps"], row["updates"])))
    assert found == [(0, 10), (0, 30), (0, 50), (20, 61), (30, 71)]
    model.learn(10)
    assert model.num_timesteps == 40
    model.close()


def test_an_experiment_hands_it_on(folder, tmp_path):
    """The words of a job give the config that it was planned with."""
    tree = {
        "envs": ["toy/multigoal"],
        "set": {"replay.dataset": {"path": folder, "share": 0.25}},
        "run": [{"algo": "sac", "steps": 100}],
    }
    [job] = plan.expand(spec.parse(tree, "file"), tmp_path)
    assert job.config.replay.dataset == DatasetConfig(path=folder, share=0.25)
    assert resolved(parser().parse_args(job.words)) == job.config


def test_one_step_runs_without_data_are_as_they_were():
    """No stream has moved, nothing more is saved."""
    one = Replay(ReplayConfig(batch_size=8), 1, Spec(3, 2), 0)
    assert one.offline(0) is None
    assert not {"data_rng_state", "last"} & one.snapshot()[1].keys()
    assert one.first_update() == (10_000, "replay.learning_starts")
