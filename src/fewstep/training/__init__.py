"""Everything that happens while a run lives: collecting, updating, evaluating, logging, saving, resuming.

The device works in two jitted calls, ``act`` and ``update``; all the rest is plain Python on the host.
"""
