"""`explain` says where a request would go; then the request is sent, and the backends tell where it went.

`python -m tests.agreement --requests 10000` does that with random tables, requests and states.
"""
