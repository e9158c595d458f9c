"""Looking at runs: read what a run left behind, reduce it to numbers, draw it, write one HTML report.

The room reads files and never imports jax, so a report can be made on any machine, from runs that finished,
crashed or are still going. ``runs`` turns a directory into a record and that into numbers; ``statistics``
compares many runs over tasks; ``figures`` draws; ``report`` lays all of it out as one page and as files.
"""
