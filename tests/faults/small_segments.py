"""The tiny algorithm in a process whose replay segments hold a hundred kilobytes: many in a short run."""

from fewstep.runs import segments
from tests.e2e.tiny_algorithm import ALGORITHM

segments.SEGMENT_BYTES = 100_000

__all__ = ["ALGORITHM"]
