"""The report: one self-contained HTML page about one program, or about two side by side."""

from .content import Subject, describe
from .page import render, write_report

__all__ = ["Subject", "describe", "render", "write_report"]
