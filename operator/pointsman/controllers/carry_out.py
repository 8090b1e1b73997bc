"""Carrying out a plan's steps, one call after the other. Whatever ends this in between, the next reconcile goes on.

Invariants: before something is written that is not known to be ours, it is read; what belongs to somebody else is never
written. Pods without the volumes of their models are never started: an API server may drop those that it does not know.
"""

from __future__ import annotations

import logging

from pointsman.api.conditions import Reason
from pointsman.api.objects import LLMBackend
from pointsman.controllers import image_causes
from pointsman.controllers.context import Context
from pointsman.controllers.observed import Problem
from pointsman.controllers.ownership import Whose, whose
from pointsman.controllers.plan_backend import taken
from pointsman.controllers.steps import Apply, Delete, SetOwners, Step
from pointsman.kube.connect import ApiError, Forbidden, Invalid, NotFound
from pointsman.kube.queue import RetryLater
from pointsman.kube.resources import OPTIONAL, OWNED_SELECTOR, Obj, is_deleting, labels_of, name_of, resource_of, uid_of

log = logging.getLogger(__name__)

_LABEL, _VALUE = OWNED_SELECTOR.split("=")
STILL_THERE_SECONDS = 2.0


class Refused(Exception):
    """The plan cannot be carried out until somebody mends something."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


async def carry_out(context: Context, backend: LLMBackend, steps: tuple[Step, ...]) -> None:
    """Raises `Refused`, `RetryLater`, `ApiError`."""
    for step in steps:
        match step:
            case Apply():
                await _apply(context, backend, step)
            case Delete(live, why):
                await _delete(context, live, why)
            case SetOwners(live, owners, why):
                await _set_owners(context, live, owners, why)


async def _apply(context: Context, backend: LLMBackend, step: Apply) -> None:
    manifest, live = step.manifest, step.live
    resource = resource_of(manifest)
    namespace, name = manifest["metadata"]["namespace"], name_of(manifest)
    if live is None:
        live = await context.client.get(resource, namespace, name)
        if live is not None and is_deleting(live):
            raise RetryLater(f"the old {manifest['kind']} {name} is still being deleted", STILL_THERE_SECONDS)
        if live is not None and manifest["kind"] == "Job":
            if labels_of(live).get(_LABEL) != _VALUE:
                raise Refused(taken(live))
            context.cache.put(resource, live)  # made by another backend that needs it, or a moment ago by us
            return
        if live is not None and whose(live, backend) is Whose.PREDECESSOR:
            raise RetryLater(f"the old {manifest['kind']} {name} is still being deleted", STILL_THERE_SECONDS)
        if live is not None and whose(live, backend) is Whose.FOREIGN:
            raise Refused(taken(live))
    log.info("applying %s %s: %s", manifest["kind"], name, step.why, extra={"namespace": namespace})
    uid = uid_of(live) if live is not None else None
    try:
        if image_causes.may_be_dropped(manifest, live):
            tried = await context.client.try_apply(manifest, uid=uid)
            if (lost := image_causes.dropped(manifest, tried)) is not None:
                raise Refused(Problem(lost.reason, lost.sentence))
        answer = await context.client.apply(manifest, uid=uid)
    except (Invalid, Forbidden) as error:
        raise Refused(refusal(manifest, error)) from error
    except NotFound as error:
        if resource in OPTIONAL:
            context.kinds.gone(resource)
            raise RetryLater(f"there are no {resource.plural} any more", STILL_THERE_SECONDS) from error
        raise
    context.cache.put(resource, answer)


async def _delete(context: Context, live: Obj, why: str) -> None:
    resource, namespace = resource_of(live), live["metadata"]["namespace"]
    log.info("deleting %s %s: %s", live["kind"], name_of(live), why, extra={"namespace": namespace})
    await context.client.delete(resource, namespace, name_of(live), uid=uid_of(live))
    context.cache.remove(resource, live)


async def _set_owners(context: Context, live: Obj, owners: tuple[Obj, ...], why: str) -> None:
    resource, metadata = resource_of(live), live["metadata"]
    log.info("owners of %s %s: %s", live["kind"], name_of(live), why, extra={"namespace": metadata["namespace"]})
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "ownerReferences": list(owners)}}
    context.cache.put(resource, await context.client.patch(resource, metadata["namespace"], name_of(live), body))


def refusal(manifest: Obj, error: ApiError) -> Problem:
    """The API server's own words, and what they are about."""
    if (image := image_causes.refused(manifest, error.message)) is not None:
        return Problem(image.reason, image.sentence)
    what = f"{manifest['kind']} {name_of(manifest)}"
    return Problem(Reason.APPLY_REFUSED, f"{what} was refused: {' '.join(error.message.split())[:600]}")
