"""A policy that fewstep has exported, as a ROS 2 node."""
