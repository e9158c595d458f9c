"""A ROS 2 node: joint states in, commands out, at the rate that the policy was trained at."""

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

import fewstep.deploy
from fewstep_policy.control import Controller


class PolicyNode(Node):
    """Parameters: ``policy`` (file), ``sources`` (see ``Controller``), ``rate`` (Hz; by default that of the
    contract), ``timeout`` (s), ``rest`` (command while a reading is missing; by default zeros in the bounds).
    """

    def __init__(self) -> None:
        super().__init__("fewstep_policy")
        path = self.declare_parameter("policy", "").value
        sources = list(self.declare_parameter("sources", [""]).value)
        rate = self.declare_parameter("rate", 0.0).value
        timeout = self.declare_parameter("timeout", 0.1).value
        rest = list(self.declare_parameter("rest", [float("nan")]).value)
        policy = fewstep.deploy.load(path)
        about = policy.description
        rate = rate or about.rate
        if not rate:
            raise ValueError(f"{about.env} did not say at which rate it was trained; set the parameter rate")
        if np.isnan(rest).any():
            rest = np.clip(np.zeros(len(about.low)), about.low, about.high).tolist()
        if len(rest) != len(about.low):
            raise ValueError(f"rest has {len(rest)} numbers, an action has {len(about.low)}")
        self._rest = rest
        self._controller = Controller(policy, sources, timeout, np.random.default_rng())
        self._commands = self.create_publisher(Float64MultiArray, "commands", 1)
        self.create_subscription(JointState, "joint_states", self._hear, 1)
        self.create_timer(1.0 / rate, self._tick)
        self.get_logger().info(f"{about.algorithm} policy of {about.env} at {rate:g} Hz")

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _hear(self, message: JointState) -> None:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        self._controller.hear(message.name, message.position, message.velocity, message.effort, stamp)

    def _tick(self) -> None:
        now = self._now()
        action = self._controller.act(now)
        if action is None:
            late = ", ".join(self._controller.missing(now)[:3])
            self.get_logger().warning(f"at rest: no reading of {late}", throttle_duration_sec=1.0)
        self._commands.publish(Float64MultiArray(data=self._rest if action is None else action.tolist()))


def main() -> None:
    """Spin until the node is stopped."""
    rclpy.init()
    node = PolicyNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
