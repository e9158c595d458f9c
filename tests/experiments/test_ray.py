"""Ray as the executor: a cluster of two nodes, one of which is lost; a killed experiment; messages."""

import signal
import socket
import subprocess
import sys

import pytest

from fewstep.cli import main
from tests.e2e.helpers import one_line
from tests.experiments.common import (
    assert_same_end,
    finished,
    killed,
    run_of,
    start,
    steps_saved,
    wait_for,
    written,
)

pytest.importorskip("ray", reason="needs pip install 'fewstep[ray]'")

STEPS = 8_000
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("lost", flush=True)
cluster.shutdown()
"""


class Cluster:
    """A cluster in a process of its own: nothing may fork beside jax, which tests have loaded."""

    def __init__(self):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self._answer()

    def lose_a_node(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self._answer() == "lost"

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("lost") or ":" in line:
                return line.strip()
        raise AssertionError("no cluster")

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The same experiment on this machine, undisturbed."""
    folder = written(tmp_path_factory.mktemp("calm"), STEPS, "executor = 'local'")
    finished(folder)
    return folder


def at_work(folder, seeds=(0, 1)):
    return lambda: all(0 < steps_saved(folder, seed) < STEPS for seed in seeds)


@pytest.mark.slow
def test_a_lost_node_and_a_killed_experiment_change_nothing(cluster, calm, tmp_path):
    resources = f'executor = "ray"\nmemory_gb_per_job = 0.1\nray.address = "{cluster.address}"\n'
    folder = written(tmp_path / "disturbed", STEPS, resources)
    running = start(folder)
    wait_for(at_work(folder))
    before = [steps_saved(folder, seed) for seed in (0, 1)]
    cluster.lose_a_node()
    # Both runs go on: one on its node, the other after it, since one core is left.
    wait_for(lambda: all(steps_saved(folder, seed) == STEPS for seed in (0, 1)) or running.poll() is not None)
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 0, output + errors
    assert min(before) > 0
    logs = [(run_of(folder, seed) / "log.txt").read_text() for seed in (0, 1)]
    assert sum("resumed at" in log for log in logs) == 1
    assert_same_end(calm, folder)


@pytest.mark.slow
def test_killed_and_stopped_it_goes_on(calm, tmp_path):
    """kill -9 of the experiment: Ray ends its tasks, their runs save. SIGTERM: it has them save and waits."""
    folder = written(tmp_path / "disturbed", STEPS, 'ray.address = "local"')
    running = start(folder, "--on", "ray")
    wait_for(at_work(folder))
    killed(running)
    again = start(folder, "--on", "ray")
    wait_for(lambda: all((run_of(folder, seed) / "log.txt").read_text().count("resumed") for seed in (0, 1)))
    again.send_signal(signal.SIGTERM)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 143, errors
    output = finished(folder, "--on", "ray")
    assert "2 of 2 runs are finished" in output
    assert_same_end(calm, folder)


def test_what_cannot_be_is_said_in_one_line(tmp_path, capsys):
    """No head answers there; an option that is not known; nothing is written in either case."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        spec = written(tmp_path / "it", 100, f'ray.address = "{address}"') / "it.toml"
        assert main(["experiment", str(spec), "--out", str(tmp_path / "out"), "--on", "ray"]) == 2
    one_line(capsys.readouterr().err, f"no Ray cluster answers at '{address}'", "ray start --head")
    spec = written(tmp_path / "it", 100, 'ray.adress = "x"') / "it.toml"
    assert main(["experiment", str(spec), "--out", str(tmp_path / "out"), "--on", "ray"]) == 2
    one_line(capsys.readouterr().err, "only address is known, got adress")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_without_such_a_node_is_said_in_one_line(cluster, tmp_path):
    spec = written(tmp_path / "it", 100, f'gpus_per_job = 1\nray.address = "{cluster.address}"')
    running = start(spec, "--on", "ray")
    output, errors = running.communicate(timeout=120)
    assert (running.returncode, output) == (2, "")
    one_line(errors, "none of the 3 node(s) of the Ray cluster has what one run needs (CPU 1, GPU 1)")
