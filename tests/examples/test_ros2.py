"""The ROS 2 example without ROS: its logic by itself, and the node with stand-ins for what it imports."""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from fewstep import deploy
from fewstep.deploy.formats import registry as formats
from fewstep.types import EnvInfo
from tests.deploy.helpers import SPEC, TINY, exported

PACKAGE = Path(__file__).parents[2] / "examples" / "ros2" / "fewstep_policy"
SOURCES = ["hip.position", "knee.position", "hip.velocity", "knee.velocity", "knee.effort"]
ENV = EnvInfo("some/Arm-v0", tuple(SOURCES), (-2.0,) * 3, (2.0, 2.0, -1.0), (3,), rate=50.0)


@pytest.fixture
def control(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield importlib.import_module("fewstep_policy.control")
    for name in [name for name in sys.modules if name.startswith("fewstep_policy")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    artefact = exported("sac", TINY["sac"], env=ENV, mode="mode")
    return formats.write(artefact, "numpy", tmp_path_factory.mktemp("ros") / "arm")[0]


def test_readings_go_to_their_places_and_the_policy_acts_on_them(control, file):
    policy = deploy.load(file)
    controller = control.Controller(policy, SOURCES, timeout=0.1)
    assert controller.act(0.0) is None
    assert controller.missing(0.0) == SOURCES
    controller.hear(["knee", "elbow", "hip"], [2.0, 9.0, 1.0], [4.0, 9.0, 3.0], [5.0, 9.0, 9.0], stamp=10.0)
    np.testing.assert_array_equal(controller.act(10.05), policy.act(np.arange(1.0, 6.0)))
    controller.hear(["hip"], [7.0], [], [], stamp=10.05)
    np.testing.assert_array_equal(controller.act(10.08), policy.act([7.0, 2.0, 3.0, 4.0, 5.0]))


def test_what_is_old_late_or_not_finite_is_not_acted_on(control, file):
    controller = control.Controller(deploy.load(file), SOURCES, timeout=0.1)
    full = (["hip", "knee"], [1.0, 2.0], [3.0, 4.0], [9.0, 5.0])
    controller.hear(*full, stamp=10.0)
    assert controller.act(10.1) is not None
    assert controller.act(10.2) is None
    controller.hear(["hip", "knee"], [1.0, np.nan], [3.0, 4.0], [0.0, 5.0], stamp=10.2)
    assert controller.missing(10.2) == ["knee.position"]
    controller.hear(*full, stamp=10.21)
    before = controller.act(10.21)
    controller.hear(["hip"], [100.0], [], [], stamp=10.0)  # an older message that came later
    np.testing.assert_array_equal(controller.act(10.21), before)
    controller.hear(["hip"], [1e39], [], [], stamp=10.22)  # not finite in float32
    np.testing.assert_array_equal(controller.act(10.22), before)
    controller.hear(["hip"], [1.0], [], [], stamp=1000.0)  # a clock that differs
    assert controller.missing(10.22) == ["hip.position"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (SOURCES[:4], "takes 5 numbers, 4 sources"),
        ([*SOURCES[:4], "knee.torque"], "'knee.torque' is not JOINT.position"),
        ([*SOURCES[:4], "position"], "'position' is not JOINT.position"),
        ([*SOURCES[:4], SOURCES[0]], "named twice"),
    ],
)
def test_wrong_sources_are_refused(control, file, sources, message):
    with pytest.raises(ValueError, match=message):
        control.Controller(deploy.load(file), sources, timeout=0.1)


class FakeNode:
    """As much of ``rclpy.node.Node`` as the node uses."""

    parameters: dict = {}  # noqa: RUF012
    now = 0.0

    def __init__(self, name):
        self.published, self.timers, self.callbacks, self.warned = [], [], {}, []

    def declare_parameter(self, name, default):
        return types.SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind, topic, depth):
        return types.SimpleNamespace(publish=lambda message: self.published.append(message.data))

    def create_subscription(self, kind, topic, callback, depth):
        self.callbacks[topic] = callback

    def create_timer(self, period, callback):
        self.timers.append((period, callback))

    def get_clock(self):
        now = types.SimpleNamespace(nanoseconds=int(1e9 * self.now))
        return types.SimpleNamespace(now=lambda: now)

    def get_logger(self):
        warn = lambda text, **_: self.warned.append(text)  # noqa: E731
        return types.SimpleNamespace(info=lambda text: None, warning=warn)


@pytest.fixture
def node(control, monkeypatch, file):
    made = {
        "rclpy": {},
        "rclpy.node": {"Node": FakeNode},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"JointState": object},
        "std_msgs": {},
        "std_msgs.msg": {"Float64MultiArray": types.SimpleNamespace},
    }
    for name, content in made.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(FakeNode, "parameters", {"policy": str(file), "sources": SOURCES})
    return importlib.import_module("fewstep_policy.node")


def test_the_node_acts_at_the_rate_of_the_contract_and_rests_without_readings(node, file):
    one = node.PolicyNode()
    ((period, tick),) = one.timers
    assert period == pytest.approx(1.0 / ENV.rate)
    tick()
    assert one.published == [[0.0, 0.0, -1.0]]  # zeros within the bounds
    assert one.warned == ["at rest: no reading of hip.position, knee.position, hip.velocity"]
    stamp = types.SimpleNamespace(sec=3, nanosec=500_000_000)
    message = types.SimpleNamespace(
        header=types.SimpleNamespace(stamp=stamp),
        name=["hip", "knee"],
        position=[1.0, 2.0],
        velocity=[3.0, 4.0],
        effort=[0.0, 5.0],
    )
    one.callbacks["joint_states"](message)
    one.now = 3.55
    tick()
    np.testing.assert_allclose(one.published[-1], deploy.load(file).act(np.arange(1.0, 6.0)))


def test_a_rest_of_the_wrong_size_is_refused(node, monkeypatch):
    monkeypatch.setitem(FakeNode.parameters, "rest", [0.0])
    with pytest.raises(ValueError, match="rest has 1 numbers, an action has 3"):
        node.PolicyNode()


def test_the_package_is_called_the_same_everywhere():
    import xml.etree.ElementTree as xml

    from fewstep import __version__

    root = xml.parse(PACKAGE / "package.xml").getroot()
    assert (root.find("name").text, root.find("version").text) == ("fewstep_policy", __version__)
    assert f'version="{__version__}"' in (PACKAGE / "setup.py").read_text()
    assert SPEC.obs_size == len(SOURCES)
