"""Equations of flows as pure functions of one sample.

Time 0 is the action, 1 the noise: x_t = (1 - t) a + t e, velocity v = e - a.
"""
