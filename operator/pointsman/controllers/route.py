"""Reconciling a ModelRoute: it has no children, only a status. The shell around `route_status.py`."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from pointsman.api.conditions import ConditionStatus, RouteCondition
from pointsman.api.objects import ModelRoute
from pointsman.api.route import ModelRouteStatus
from pointsman.controllers import unreadable
from pointsman.controllers.context import Context
from pointsman.controllers.readiness import is_ready
from pointsman.controllers.route_status import status as judge
from pointsman.controllers.status_writer import StatusWriter
from pointsman.domain.folding import fold_route
from pointsman.kube.queue import RESYNC_SECONDS, Again
from pointsman.kube.resources import ROUTES, is_deleting, name_of, uid_of

PENDING_AGAIN_SECONDS = 1.0


class RouteController:
    """Reconciles one route at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writer: StatusWriter[ModelRouteStatus] = StatusWriter(context, figures=without_figures)

    async def reconcile(self, namespace: str, name: str) -> Again:
        """Raises `ApiError`: try again later."""
        context = self._context
        body = context.cache.get(ROUTES, namespace, name)
        if body is None or is_deleting(body):
            return Again(None)
        try:
            route = ModelRoute.parse(body)
        except ValidationError as error:
            await self._writer.write(body, *unreadable.route(body, error, context.clock()))
            return Again()
        table = await context.table(namespace)
        view = context.reports.view(uid_of(p) for p in context.gateway_pods(namespace) if is_ready(p))
        folded = fold_route(name, route.meta.generation, route.spec.names_of_targets, view)
        if folded.cause == "GatewayNotReady" and (trouble := context.gateway_trouble.get(namespace)):
            folded = replace(folded, message=trouble)
        if view.pending and folded.serving is not True and route.status.observed_generation == route.meta.generation:
            return Again(PENDING_AGAIN_SECONDS)  # the first reports are on their way
        status = judge(route, table, folded, context.clock())
        soon = await self._writer.write(body, route.status, status)
        return Again(RESYNC_SECONDS if soon is None else soon)

    async def misnamed(self, namespace: str) -> list[str]:
        """The routes whose status says something else of their names than the table does."""
        table = await self._context.table(namespace)
        losers = {c.route for c in table.clashes}
        out = []
        for body in self._context.cache.all(ROUTES, namespace):
            conditions = (body.get("status") or {}).get("conditions") or ()
            said = next((c["status"] for c in conditions if c["type"] == RouteCondition.ACCEPTED), None)
            if said is not None and (said == ConditionStatus.FALSE) != (name_of(body) in losers):
                out.append(name_of(body))
        return out


def without_figures(status: ModelRouteStatus) -> ModelRouteStatus:
    """The newest fallback may change with every request: it may wait for its turn."""
    return status.model_copy(update={"last_fallback": None})
