"""What toy runs show."""

from fewstep.analysis.reading import Run


def section(run: Run, prefix: str) -> str:
    """HTML."""
    return ""
