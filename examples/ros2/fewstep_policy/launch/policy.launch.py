"""``ros2 launch fewstep_policy policy.launch.py policy:=/path/arm.onnx config:=/path/arm.yaml``."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """The node with the policy and a file of its other parameters."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("policy"),
            DeclareLaunchArgument("config"),
            Node(
                package="fewstep_policy",
                executable="policy",
                parameters=[LaunchConfiguration("config"), {"policy": LaunchConfiguration("policy")}],
            ),
        ]
    )
