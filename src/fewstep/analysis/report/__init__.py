"""One HTML page about runs, with its tables and figures as files."""

from fewstep.analysis.report.report import write_figure, write_report

__all__ = ["write_figure", "write_report"]
