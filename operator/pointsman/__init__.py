"""Pointsman: one model name keeps answering."""

__version__ = "0.1.0"
