"""HTML reports of training runs, and the charts and drawings in them.

A report is one self-contained page that needs no network and no scripts.
"""

from transxnet.reports.html_page import render, write_report
from transxnet.reports.report_data import Report

__all__ = ["Report", "render", "write_report"]
