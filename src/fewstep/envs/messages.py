"""Words for error messages."""

from typing import Any

import numpy as np


def kind(value: Any) -> str:
    """What sort of thing ``value`` is, for messages."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if value is None:
        return "None"
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    shown = f" ({value!r})" if isinstance(value, str | int | float) else ""
    return f"{article} {type(value).__name__}{shown}"
