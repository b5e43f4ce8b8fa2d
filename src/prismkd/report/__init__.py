"""Run directory -> one self-contained HTML file."""

from prismkd.report.build import write_report

__all__ = ["write_report"]
