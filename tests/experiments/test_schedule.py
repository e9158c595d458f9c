"""The scheduler with an executor that only pretends, and the local one with real processes."""

import io
import json
import os
import signal
import tomllib
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from fewstep.errors import UsageError
from fewstep.experiments import local, plan, schedule, spec
from fewstep.experiments.display import Display
from fewstep.experiments.schedule import Standing
from fewstep.experiments.status import is_finished, progress
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import last_row, last_step
from tests.e2e.helpers import process
from tests.experiments.common import assert_same_end, run_of, steps_saved, wait_for

SPEC = """
envs = ["toy/bandit"]
seeds = "0..2"
steps = 40

[[run]]
algo = "sac"
preset = "small"
"""


def jobs_of(tmp_path, text=SPEC):
    return plan.expand(spec.parse(tomllib.loads(text), "it.toml"), tmp_path)


def finish(job):
    job.path.mkdir(parents=True, exist_ok=True)
    RunDir(job.path).config.write_text(job.config.to_toml())
    checkpoint.save(RunDir(job.path).checkpoints, job.config.training.steps, {}, {"env_steps": 40}, keep=1)


@dataclass
class Pretended:
    """A run that takes ``looks`` looks, and then is finished unless it fails."""

    job: plan.Job
    looks: int
    fails: bool
    stopped: bool = False

    def exit_status(self):
        self.looks -= 1
        if self.looks > 0 and not self.stopped:
            return None
        if not self.fails and not self.stopped:
            finish(self.job)
        return 1 if self.fails else 0

    def stop(self):
        self.stopped = True

    def last_words(self):
        return "fewstep: it broke" if self.fails else ""


@dataclass
class Executor:
    slots: int = 2
    failing: tuple[int, ...] = ()
    started: list[Pretended] = field(default_factory=list)
    most: int = 0

    def has_room(self, running):
        self.most = max(self.most, running + 1)
        return True

    def start(self, job):
        self.started.append(Pretended(job, 3, job.config.seed in self.failing))
        return self.started[-1]


def run(jobs, executor, check=lambda: None):
    seen = []

    def observe(entries):
        seen.append([entry.standing for entry in entries])

    return schedule.run(jobs, executor, observe, check, sleep=lambda _: None), seen


def test_all_run_and_never_more_than_the_slots(tmp_path):
    executor = Executor()
    entries, seen = run(jobs_of(tmp_path), executor)
    assert [entry.standing for entry in entries] == [Standing.FINISHED] * 3
    assert max(row.count(Standing.RUNNING) for row in seen) == 2
    assert [one.job.config.seed for one in executor.started] == [0, 1, 2]


def test_a_failure_stops_nothing_but_itself(tmp_path):
    entries, _ = run(jobs_of(tmp_path), Executor(failing=(1,)))
    assert [entry.standing for entry in entries] == [Standing.FINISHED, Standing.FAILED, Standing.FINISHED]
    assert entries[1].message == "fewstep: it broke"


def test_a_job_that_cannot_be_started_stops_nothing_but_itself(tmp_path):
    class Refusing(Executor):
        def start(self, job):
            if job.config.seed == 1:
                raise OSError(11, "Resource temporarily unavailable")
            return super().start(job)

    entries, _ = run(jobs_of(tmp_path), Refusing())
    assert [entry.standing for entry in entries] == [Standing.FINISHED, Standing.FAILED, Standing.FINISHED]
    assert "Resource temporarily unavailable" in entries[1].message


def test_finished_runs_are_kept_and_broken_ones_started_again(tmp_path):
    jobs = jobs_of(tmp_path)
    run(jobs, Executor(failing=(1,)))
    again = Executor()
    entries, _ = run(jobs, again)
    assert [one.job.config.seed for one in again.started] == [1]
    assert {entry.standing for entry in entries} == {Standing.FINISHED}


def test_a_signal_stops_the_running_ones_and_waits_for_them(tmp_path):
    executor, looks = Executor(), iter(range(10))

    def check():
        if next(looks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jobs_of(tmp_path), executor, check)
    assert [one.stopped for one in executor.started] == [True, True]


def test_a_run_that_another_process_writes_is_waited_for(tmp_path):
    jobs, looks = jobs_of(tmp_path), iter(range(100))
    finish(jobs[0])
    checkpoint_folder = RunDir(jobs[0].path).checkpoints
    checkpoint_folder.rename(tmp_path / "hidden")
    lock = RunDir(jobs[0].path).locked()
    lock.__enter__()

    def check():
        if next(looks) == 20:  # the other process finishes
            (tmp_path / "hidden").rename(checkpoint_folder)
            lock.__exit__(None, None, None)

    executor = Executor()
    entries, seen = run(jobs, executor, check)
    assert {entry.standing for entry in entries} == {Standing.FINISHED}
    assert [one.job.config.seed for one in executor.started] == [1, 2]
    assert any(row[0] is Standing.ELSEWHERE for row in seen)


def test_resources_that_are_not_there(tmp_path):
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(UsageError, match="cores"):
        local.LocalExecutor(spec.Resources(cores_per_job=cores + 1), tmp_path)
    with pytest.raises(UsageError, match="lower jobs"):
        local.LocalExecutor(spec.Resources(), tmp_path, jobs=cores + 1)
    executor = local.LocalExecutor(spec.Resources(memory_gb_per_job=1e9), tmp_path)
    assert executor.has_room(0)
    assert not executor.has_room(1) or local.free_memory_gb() is None


STEPS = 6000
TINY = f"""
envs = ["toy/bandit"]
seeds = [0, 1]
steps = {STEPS}
set = {{"training.eval_every" = 1000, "training.checkpoint_every" = 500, "replay.learning_starts" = 50}}

[[run]]
algo = "tests.e2e.tiny_algorithm:ALGORITHM"
label = "tiny"

[[run]]
algo = "tests.e2e.tiny_algorithm:ALGORITHM"
label = "broken"
seeds = [0]
set = {{"poison_at" = 100}}
"""


def experiment(folder):
    return process("experiment", folder / "it.toml", "--out", folder / "out")


def test_killed_and_continued_an_experiment_ends_like_an_undisturbed_one(tmp_path):
    """One run diverges; it is named, and the others are finished."""
    for name in ("calm", "disturbed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "it.toml").write_text(TINY)
    output, _ = experiment(tmp_path / "calm").communicate(timeout=300)
    assert "failed: broken toy/bandit seed 0: fewstep:" in output
    assert "2 of 3 runs are finished" in output

    disturbed = tmp_path / "disturbed"
    for sent, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        before, started = steps_saved(disturbed, 0), experiment(disturbed)
        wait_for(lambda: steps_saved(disturbed, 0) > before or started.poll() is not None)  # noqa: B023
        started.send_signal(sent)
        started.communicate(timeout=120)
        assert started.returncode == status
    assert steps_saved(disturbed, 0) < STEPS
    last = experiment(disturbed)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 1
    assert "2 of 3 runs are finished" in output
    assert_same_end(tmp_path / "calm", disturbed)
    for name in ("calm", "disturbed"):
        for seed in (0, 1):
            assert len(list(run_of(tmp_path / name, seed).glob("checkpoints/*/manifest.json"))) == 2


def test_progress_is_read_from_the_rows(tmp_path):
    job = jobs_of(tmp_path)[0]
    assert progress(job).env_steps == 0
    assert not is_finished(job)
    finish(job)
    assert is_finished(job)
    rows = '{"env_steps": 10}\n{"env_steps": 20, "wall_env_steps_per_second": 5.0}\n{"env_st'
    RunDir(job.path).metrics.write_text(rows)
    RunDir(job.path).evaluations.write_text('{"env_steps": 20, "returns": [1.0, 3.0]}\n')
    found = progress(job)
    assert (found.env_steps, found.steps_per_second, found.last_return) == (20, 5.0, 2.0)


def test_the_last_row_is_found_however_long_it_is(tmp_path):
    file = tmp_path / "evaluations.jsonl"
    row = {"env_steps": 7, "returns": [0.123456789] * 30_000}
    file.write_text('{"env_steps": 6}\n' + json.dumps(row) + "\n5\n[1]\n" + "[" * 100_000 + '\n{"env_st')
    assert last_row(file) == row
    file.write_text("no row\n" * 20_000)
    assert last_row(file) == {}


@pytest.mark.parametrize("broken", ['{"env_steps": "x"}', '{"env_steps": Infinity}', "[1]", "{}", "torn"])
def test_a_line_that_is_no_row_is_passed_over(broken, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"env_steps": 3}}\n{broken}\n')
    assert last_step(file) == 3


def test_a_run_that_another_process_has_begun_first_has_not_failed(tmp_path):
    """Between the start of a run and its lock are seconds in which two schedulers may both start it."""
    jobs, locks = jobs_of(tmp_path)[:1], []

    class Loses(Pretended):
        def exit_status(self):
            if not locks:
                finish(self.job)
                RunDir(self.job.path).checkpoints.rename(tmp_path / "hidden")
                locks.append(RunDir(self.job.path).locked())
                locks[0].__enter__()
            return 1

    class Slow(Executor):
        def start(self, job):
            self.started.append(Loses(job, 3, True))
            return self.started[-1]

    looks = iter(range(100))

    def check():
        if next(looks) == 5:
            (tmp_path / "hidden").rename(RunDir(jobs[0].path).checkpoints)
            locks[0].__exit__(None, None, None)

    executor = Slow()
    (entry,), seen = run(jobs, executor, check)
    assert entry.standing is Standing.FINISHED
    assert [Standing.ELSEWHERE] in seen
    assert len(executor.started) == 1


def test_runs_are_waited_for_also_where_what_is_finished_cannot_be_recorded(tmp_path):
    executor, jobs = Executor(), jobs_of(tmp_path)
    finish(jobs[0])

    def observe(entries):
        raise UsageError("cannot write")

    with pytest.raises(UsageError, match="cannot write"):
        schedule.run(jobs, executor, observe, lambda: None, sleep=lambda _: None)
    assert [(one.job, one.stopped) for one in executor.started] == [(jobs[1], True), (jobs[2], True)]


def test_a_message_is_no_markup(tmp_path):
    message = "cannot place [/gpu:0] of [batch, 3]"
    entry = schedule.Tracked(jobs_of(tmp_path)[0], Standing.FAILED, message)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(Display(1)._table([entry]))
    assert message in console.export_text()
