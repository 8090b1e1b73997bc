"""Reconciling a namespace's gateway: made with its first LLMBackend or ModelRoute, removed a while after its last.

Decided here: when there is a gateway. Not here: what it is made of (`gateway_children.py`). It has no owner reference:
it belongs to no resource. What carries its name without our label is left alone, and the routes say so.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from pointsman.api import meta
from pointsman.controllers.carry_out import refusal
from pointsman.controllers.context import Context
from pointsman.controllers.drift import drift
from pointsman.controllers.gateway_children import LABELS, children, report_secret
from pointsman.domain.references import references
from pointsman.kube.connect import Conflict, Forbidden, Invalid
from pointsman.kube.queue import RESYNC_SECONDS, Again
from pointsman.kube.resources import (
    BACKENDS,
    BUDGETS,
    DEPLOYMENTS,
    ROLE_BINDINGS,
    ROLES,
    ROUTES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Obj,
    Resource,
    is_deleting,
    labels_of,
    name_of,
    resource_of,
    uid_of,
)

log = logging.getLogger(__name__)

TROUBLE_SECONDS = 30.0
KINDS = (DEPLOYMENTS, SERVICES, BUDGETS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS)


class GatewayController:
    """Reconciles one namespace's gateway at a time."""

    def __init__(
        self, context: Context, on_trouble: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`on_trouble` gets a namespace whose routes have something else to say now."""
        self._context = context
        self._on_trouble = on_trouble
        self._clock = clock
        self._empty_since: dict[str, float] = {}

    async def reconcile(self, namespace: str) -> Again:
        """Raises `ApiError`: try again later."""
        cache = self._context.cache
        if not any(True for r in (BACKENDS, ROUTES) for _ in cache.all(r, namespace)):
            return await self._remove(namespace)
        self._empty_since.pop(namespace, None)
        trouble = await self._make(namespace)
        if trouble != self._context.gateway_trouble.get(namespace):
            self._context.gateway_trouble.pop(namespace, None)
            if trouble is not None:
                log.warning("the gateway cannot be made: %s", trouble, extra={"namespace": namespace})
                self._context.gateway_trouble[namespace] = trouble
            self._on_trouble(namespace)
        return Again(RESYNC_SECONDS if trouble is None else TROUBLE_SECONDS)

    async def _make(self, namespace: str) -> str | None:
        """What is in the way, in a sentence; None when all is made."""
        named = references(self._context.backends(namespace))
        if (trouble := await self._report_secret(namespace)) is not None:
            return trouble
        wanted = children(namespace, self._context.settings, named)
        for manifest in wanted:
            if (trouble := await self._apply(namespace, manifest)) is not None:
                return trouble
        kept = {m["kind"] for m in wanted}
        for resource in KINDS:
            live = self._ours(resource, namespace)
            if resource.kind not in kept and live is not None:
                await self._delete(resource, live)
        return None

    async def _report_secret(self, namespace: str) -> str | None:
        live = self._context.cache.get(SECRETS, namespace, meta.REPORT_SECRET)
        if live is None:
            live = await self._context.client.get(SECRETS, namespace, meta.REPORT_SECRET)
        if live is not None and not _is_ours(live):
            return _foreign(live)
        if live is not None and (live.get("data") or {}).get(meta.REPORT_SECRET_KEY):
            self._context.cache.put(SECRETS, live)
            return None
        manifest = report_secret(namespace, secrets.token_urlsafe(32))
        return await self._write(manifest, live)

    async def _apply(self, namespace: str, manifest: Obj) -> str | None:
        resource = resource_of(manifest)
        live = self._context.cache.get(resource, namespace, name_of(manifest))
        if live is not None and drift(manifest, live) is None:
            return None
        if live is None:
            live = await self._context.client.get(resource, namespace, name_of(manifest))
            if live is not None and not _is_ours(live):
                return _foreign(live)
        if live is not None and is_deleting(live):
            return f"the old {live['kind']} {name_of(live)} is still being deleted"
        return await self._write(manifest, live)

    async def _write(self, manifest: Obj, live: Obj | None) -> str | None:
        log.info("applying %s %s", manifest["kind"], name_of(manifest), extra=_where(manifest))
        try:
            answer = await self._context.client.apply(manifest, uid=uid_of(live) if live is not None else None)
        except (Invalid, Forbidden) as error:
            return refusal(manifest, error).message
        except Conflict as error:
            return f"{manifest['kind']} {name_of(manifest)} is being changed by somebody else: {error.message[:300]}"
        self._context.cache.put(resource_of(manifest), answer)
        return None

    async def _remove(self, namespace: str) -> Again:
        live = [(r, o) for r in KINDS if (o := self._ours(r, namespace)) is not None]
        token = self._context.cache.get(SECRETS, namespace, meta.REPORT_SECRET)
        if token is not None:
            live.append((SECRETS, token))
        if not live:
            self._empty_since.pop(namespace, None)
            return Again(None)
        since = self._empty_since.setdefault(namespace, self._clock())
        left = since + self._context.settings.remove_gateway_after - self._clock()
        if left > 0:
            return Again(left)
        for resource, obj in live:
            await self._delete(resource, obj)
        self._empty_since.pop(namespace, None)
        self._context.gateway_trouble.pop(namespace, None)
        return Again(None)

    async def _delete(self, resource: Resource, obj: Obj) -> None:
        log.info("deleting %s %s", obj["kind"], name_of(obj), extra=_where(obj))
        await self._context.client.delete(resource, obj["metadata"]["namespace"], name_of(obj), uid=uid_of(obj))
        self._context.cache.remove(resource, obj)

    def _ours(self, resource: Resource, namespace: str) -> Obj | None:
        live = self._context.cache.get(resource, namespace, meta.GATEWAY_NAME)
        return live if live is not None and _is_ours(live) and not is_deleting(live) else None


def _is_ours(live: Obj) -> bool:
    """Labelled by us, or (when somebody took the labels off) once applied by us."""
    if all(labels_of(live).get(k) == v for k, v in LABELS.items()):
        return True
    managers = live["metadata"].get("managedFields") or ()
    return any(m.get("manager") == meta.FIELD_MANAGER and m.get("operation") == "Apply" for m in managers)


def _foreign(live: Obj) -> str:
    return (
        f"{live['kind']} {name_of(live)} exists and was not made by Pointsman; it is left alone. Delete or rename it,"
        " or give it the labels of a gateway to hand it over"
    )


def _where(obj: Obj) -> dict[str, str]:
    return {"namespace": obj["metadata"]["namespace"]}
