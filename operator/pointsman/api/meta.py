"""Names that stand outside our own code: API group, kinds, labels, annotations, child names."""

GROUP = "pointsman.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

BACKEND_KIND = "LLMBackend"
BACKEND_PLURAL = "llmbackends"
ROUTE_KIND = "ModelRoute"
ROUTE_PLURAL = "modelroutes"

FIELD_MANAGER = "pointsman"
"""Server-side apply's field manager of everything the operator writes."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "pointsman"
COMPONENT_LABEL = "app.kubernetes.io/component"
"""`engine`, `engine-worker`, `pull` or `gateway`."""
BACKEND_LABEL = f"{GROUP}/backend"
"""On a backend's children: the LLMBackend's name."""
SOURCE_LABEL = f"{GROUP}/pull"
"""On a pull Job and its pods: the Job's name."""
VOLUME_LABEL = f"{GROUP}/volume"
"""On pods that mount a model store: the claim's name. Pods of one ReadWriteOnce store follow it to one node."""

RECONCILE_ANNOTATION = f"{GROUP}/reconcile-at"
"""Reconcile now: any new value (a time, say) reconciles at once and starts failed pulls again."""

GATEWAY_NAME = "pointsman-gateway"
"""The Deployment, Service, ServiceAccount, Role and RoleBinding of a namespace's gateway."""
REPORT_SECRET = "pointsman-report"  # noqa: S105  a name, not a secret
"""The Secret with the token that opens the reports of a namespace."""
REPORT_SECRET_KEY = "token"  # noqa: S105  a key's name
LEASE_NAME = "pointsman-operator"

CHILD_PREFIX = "pmb-"
GROUP_PREFIX = "pmg-"
"""Of the name of a backend's LeaderWorkerSet (`engines/groups.py`)."""


def child_name(backend: str) -> str:
    """The name of a backend's Deployment, Service and claim."""
    return CHILD_PREFIX + backend
