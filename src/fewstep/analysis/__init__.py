"""Looking at runs: read what a run left behind, reduce it to numbers, draw it, write one HTML report.

The room reads files and never imports jax, so a report can be made on any machine, from runs that finished,
crashed or are still going. ``reading`` turns a directory into a ``Run``; ``summary`` computes the numbers;
``figures`` and ``toy_figures`` draw one SVG per function; ``page`` and ``tables`` write HTML.
"""
