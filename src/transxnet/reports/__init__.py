"""The HTML report of a training run: one self-contained page that needs neither network nor script to be read."""

from transxnet.reports.contents import Report
from transxnet.reports.html_page import render, write_report

__all__ = ["Report", "render", "write_report"]
