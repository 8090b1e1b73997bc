"""Bytes that nobody sane sends: readers held against each other and against a second parser, for a bounded time.

`corpus/` keeps the cases worth remembering, one a file; its names say what must come of them.
"""
