"""A thousand backends and a thousand routes in one namespace: what they cost, and how fast what changes is carried out.

API server, scheduler and controllers are real; so are the operator's process, with the rights it ships with, and the
gateway's. Pods are on paper (`kubelet.py`), and all backends lead to one small server.
"""
