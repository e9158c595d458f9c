"""Many runs from one file.

What is to be run is in ``spec``, as which runs in ``plan``, how they stand in ``status``; ``schedule`` starts
them through an executor such as ``local``.
"""
