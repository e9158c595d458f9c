"""For ``colcon build``."""

from setuptools import setup

NAME = "fewstep_policy"
setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/policy.launch.py"]),
    ],
    install_requires=["setuptools"],
    entry_points={"console_scripts": [f"policy = {NAME}.node:main"]},
)
