"""Hyper-parameter search: trials suggested by Optuna, each of them ordinary runs.

What is searched is in ``spec`` and ``space``, which trial gets which settings and steps in ``study``, their
runs and scores in ``runs``; ``report`` writes what came out. Only ``study`` and ``report`` import Optuna.
"""
