"""A real Kubernetes for the tests: a given one, kind, or one made of processes in namespaces of their own.

Run ``python -m tests.cluster --help``. Tests take the fixtures in ``fixtures.py`` and see a ``Cluster`` only.
"""
