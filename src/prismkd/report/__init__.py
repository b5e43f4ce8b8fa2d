"""Run directory -> one self-contained HTML file; several run directories -> one with all of them side by side."""

from prismkd.report.build import write_report
from prismkd.report.side_by_side import write_comparison

__all__ = ["write_comparison", "write_report"]
