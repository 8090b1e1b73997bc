"""A real gateway under continuous random faults, and a model that says of every single request whether it went right.

`python -m tests.faults --requests 100000` runs it and prints what came of it; `test_random_faults.py` is the same,
small enough for every run of the tests.
"""
