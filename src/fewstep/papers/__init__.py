"""The figures and tables of the papers as experiment files, drawn from our own runs.

``catalogue`` reads the files (``smfp/NAME.toml``, ``mfpo/NAME.toml``) and makes an experiment of each, at one
of three scales; ``figure`` draws what its runs gave, with the published numbers beside it.
"""
