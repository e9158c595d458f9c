"""Sizes of MuJoCo's arrays, two of which are no more."""

array_sizes = {
    "mjmodel": {"qpos0": ("nq",), "body_pos": ("nbody", 3), "flex_of_long_ago": ("nflex", 2)},
    "mjdata": {"qpos": ("nq",), "qvel": ("nv",), "gone_since_then": ("nv",)},
}
