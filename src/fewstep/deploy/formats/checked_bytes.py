"""A SHA-256 sum inside the file that it is of: taken with zeros in its own place.

For formats whose bytes others lay out (protocol buffers), where a sum over fields would depend on who wrote
them. It is looked at before anything else reads the file, so that no parser sees a damaged one.
"""

import hashlib
import re
from pathlib import Path

from fewstep.errors import FewstepError

KEY, BLANK = "sha256", "0" * 64
"""The sum is the value of this key in JSON as ``json.dumps`` writes it; ``BLANK`` stands where it will."""

_SUM = re.compile(rb'"sha256": "([0-9a-f]{64})"')


def seal(content: bytes) -> bytes:
    """``content`` with the sum in place of ``BLANK``, which it holds exactly once."""
    found = _SUM.findall(content)
    if found != [BLANK.encode()]:
        raise ValueError("the place for the sum is not there exactly once")
    return _with(content, hashlib.sha256(content).hexdigest().encode())


def require_whole(content: bytes, path: Path) -> None:
    """Raise FewstepError unless ``content``, read from ``path``, is as ``seal`` left it."""
    found = _SUM.search(content)
    if found is None:
        raise FewstepError(f"{path} is damaged or not an exported policy: it holds no SHA-256 sum")
    blank = _with(content, BLANK.encode())
    if hashlib.sha256(blank).hexdigest().encode() != found[1]:
        raise FewstepError(
            f"{path} is damaged: its content does not have the SHA-256 sum it was written with"
        )


def _with(content: bytes, digest: bytes) -> bytes:
    return _SUM.sub(b'"sha256": "' + digest + b'"', content)
