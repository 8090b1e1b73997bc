"""Reconciling an LLMBackend: observe → plan → apply → prune → status. The shell around pure decisions.

Decided here: what is read and in which order things are done. Not here: what should be (`plan_backend.py`), what the
status says (`backend_status.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import ValidationError

from pointsman.api import meta
from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.conditions import BackendCondition, ConditionStatus, Reason
from pointsman.api.objects import LLMBackend
from pointsman.api.sources.error import SourceError
from pointsman.controllers import causes, children, own_pulls, pull_job, unreadable
from pointsman.controllers.adapter_calls import AGAIN_SECONDS, AdapterCalls
from pointsman.controllers.backend_status import status as judge
from pointsman.controllers.carry_out import Refused, carry_out
from pointsman.controllers.context import Context
from pointsman.controllers.nodes import Nodes
from pointsman.controllers.observed import Observed, Problem
from pointsman.controllers.placing import GpuView, Holder
from pointsman.controllers.plan_backend import Plan, plan
from pointsman.controllers.readiness import is_ready
from pointsman.controllers.scaling import Scaling
from pointsman.controllers.settings import Settings
from pointsman.controllers.status_writer import StatusWriter
from pointsman.controllers.workload import lacking, replicas, serves
from pointsman.domain.compiling_backend import ca_bundle, missing_secret
from pointsman.domain.folding import Health, fold_backend
from pointsman.domain.references import references
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.gpus import UnknownGpu, need, resolve
from pointsman.engines.groups import group_name
from pointsman.kube import events
from pointsman.kube.queue import RESYNC_SECONDS, Again
from pointsman.kube.resources import (
    BACKENDS,
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LEADER_WORKER_SETS,
    PODS,
    SERVICES,
    Obj,
    is_deleting,
    owner_uids,
    uid_of,
)

ROUNDS = 4
"""A plan may need what an earlier step made (a pull needs its volume's UID); more rounds would be a quarrel."""
REFUSED_SECONDS = 30.0
EVENTS_SECONDS = 30.0
"""Events of one stuck child are read this often at most, and less and less often."""
FORGET_SECONDS = 3600.0


@dataclass(frozen=True)
class _EventsRead:
    """Events of a stuck child, and when they were first and last read (monotonic)."""

    first: float
    at: float
    events: tuple[Obj, ...]


class BackendController:
    """Reconciles one backend at a time; the queue makes sure that none is reconciled twice at once."""

    def __init__(self, context: Context) -> None:
        self.scaling = Scaling(context)
        self._context = context
        self._writer: StatusWriter[LLMBackendStatus] = StatusWriter(
            context, figures=without_figures, latency=without_latency
        )
        self._events: dict[str, _EventsRead] = {}
        self._adapters = AdapterCalls()
        self._nodes = Nodes(context.client, context.clock)

    async def reconcile(self, namespace: str, name: str) -> Again:
        """Raises `ApiError` and `RetryLater`: try again later."""
        body = self._context.cache.get(BACKENDS, namespace, name)
        if body is None or is_deleting(body):
            self.scaling.forget(namespace, name)
            self._adapters.forget(namespace, name)
            return Again(None)  # owner references delete the children
        try:
            backend = LLMBackend.parse(body)
        except ValidationError as error:
            await self._writer.write(body, *unreadable.backend(body, error, self._context.clock()))
            return Again()
        refused: Problem | None = None
        seen = await self._observe(backend, refused)
        before = replicas(seen.workload)
        todo = plan(seen)
        if not backend.spec.suspend:
            for _ in range(ROUNDS):
                if not todo.steps:
                    break
                try:
                    await carry_out(self._context, backend, todo.steps)
                except Refused as error:
                    refused = error.problem
                seen = await self._observe(backend, refused)
                todo = plan(seen)
                if refused is not None:
                    break
        if seen.scale is not None and before is not None and replicas(seen.workload) == seen.replicas != before:
            notice = events.Notice("Scaled", seen.scale.status.message, warning=False)
            await events.post(self._context.client, body, notice, self._context.instance)
        unloaded = "" if backend.spec.suspend else await self._adapters.keep(seen, todo)
        soon = await self._write(body, replace(seen, unloaded=unloaded), todo)
        scale = seen.scale.again if seen.scale is not None else None
        times = [
            t
            for t in (
                todo.again,
                soon,
                scale,
                REFUSED_SECONDS if refused else None,
                AGAIN_SECONDS if unloaded else None,
            )
            if t is not None
        ]
        return Again(min(times, default=RESYNC_SECONDS))

    async def _write(self, body: Obj, seen: Observed, todo: Plan) -> float | None:
        pods = [*seen.pods, *(p for pods in seen.pull_pods.values() for p in pods)]
        bare = causes.podless(seen.jobs.values(), seen.pull_pods, seen.now)
        lack = lacking(seen.workload, seen.pods)
        few = causes.aged(lack, seen.now)
        events = await self._read_events([*causes.stuck(pods, seen.claim, seen.now), *bare, *few])
        seen = replace(seen, events=events)
        status = judge(seen, todo)
        written = await self._writer.write(body, seen.backend.status, status)
        pending = bool(lack) or any((p.get("status") or {}).get("phase") == "Pending" for p in pods)
        pending = pending or any(not seen.pull_pods.get(p.name) and p.job is not None and not p.end for p in todo.pulls)
        look = None if not pending else EVENTS_SECONDS if events else causes.STUCK_SECONDS
        return min((t for t in (written, look) if t is not None), default=None)

    async def _observe(self, backend: LLMBackend, refused: Problem | None) -> Observed:
        context, namespace = self._context, backend.meta.namespace
        cache, name = context.cache, meta.child_name(backend.meta.name)
        health = self._health(backend)
        if not DRIVERS[backend.spec.engine].runs_pods:
            missing = await self._missing(backend)
            return Observed(backend, context.settings, context.clock(), health=health, missing=missing, refused=refused)
        mistaken: Problem | None = None
        try:
            backend = written_out(backend, context.settings)
        except UnknownGpu as error:
            mistaken = Problem(Reason.INVALID_SPEC, str(error))
        workload = cache.get(DEPLOYMENTS, namespace, name)
        outgoing = cache.get(LEADER_WORKER_SETS, namespace, group_name(backend.meta.name))
        no_groups = ""
        if backend.spec.pods_of_a_replica > 1:
            workload, outgoing = outgoing, workload
            no_groups = await context.kinds.missing(LEADER_WORKER_SETS)
        if not backend.spec.has_sources:
            claim = None
        elif (theirs := children.users_claim(backend, workload or outgoing)) is not None:
            claim = await context.client.get(CLAIMS, namespace, theirs)
        else:
            claim = cache.get(CLAIMS, namespace, name)
        jobs = self._jobs(backend, claim)
        pull_pods = {j: await self._pull_pods(namespace, j, live) for j, live in jobs.items()}
        pods = [p for p in cache.labelled(PODS, namespace, meta.BACKEND_LABEL, backend.meta.name) if not is_deleting(p)]
        progress = {
            j: p for j, some in pull_pods.items() if (p := context.reports.progress(map(uid_of, some))) is not None
        }
        return Observed(
            backend=backend,
            settings=context.settings,
            now=context.clock(),
            service=cache.get(SERVICES, namespace, name),
            workload=workload,
            outgoing=outgoing,
            no_groups=no_groups,
            claim=claim,
            jobs=jobs,
            pods=tuple(pods),
            pull_pods=pull_pods,
            progress=progress,
            reports=own_pulls.reports(pods, context.reports.last),
            secrets=await context.given(backend),
            health=health,
            gpus=None if mistaken else await self._gpus(backend, pods),
            mistaken=mistaken,
            scale=self.scaling.judge(backend, replicas(workload or outgoing), filter(serves, pods)),
            refused=refused,
        )

    async def _gpus(self, backend: LLMBackend, pods: list[Obj]) -> GpuView | None:
        """What GPUs it wants; of the nodes, and of who holds theirs, only what something depends on."""
        if backend.spec.gpu is None:
            return None
        view = GpuView(backend.spec, need(backend.spec.gpu), backend.meta.namespace)
        unplaced = not all((p.get("spec") or {}).get("nodeName") for p in pods)
        if view.need.memory is None or unplaced:
            view = replace(view, nodes=await self._nodes.gpus())
        return replace(view, holders=tuple(self._holders())) if unplaced else view

    def _holders(self) -> Iterator[Holder]:
        """The pods of all backends that have GPUs."""
        context = self._context
        for namespace in context.cache.namespaces(BACKENDS):
            for other in context.backends(namespace):
                if other.spec.gpu is None:
                    continue
                with suppress(UnknownGpu):
                    gpu = written_out(other, context.settings).spec.gpu
                    assert gpu is not None
                    wanted = need(gpu)
                    for pod in context.cache.labelled(PODS, namespace, meta.BACKEND_LABEL, other.meta.name):
                        node = (pod.get("spec") or {}).get("nodeName")
                        if node and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                            yield Holder(namespace, other.meta.name, node, wanted.resource, wanted.count)

    def _jobs(self, backend: LLMBackend, claim: Obj | None) -> Mapping[str, Obj]:
        """The pulls this backend owns, and those it could share."""
        wanted = set()
        if claim is not None:
            for model in backend.spec.served:
                with suppress(SourceError):
                    wanted.add(pull_job.job_name(model, uid_of(claim)))
        namespace = backend.meta.namespace
        pulls = self._context.cache.labelled(JOBS, namespace, meta.COMPONENT_LABEL, pull_job.PULL_COMPONENT)
        return {
            job["metadata"]["name"]: job
            for job in pulls
            if job["metadata"]["name"] in wanted or backend.meta.uid in owner_uids(job)
        }

    async def _pull_pods(self, namespace: str, name: str, job: Obj) -> tuple[Obj, ...]:
        pods = self._context.cache.labelled(PODS, namespace, meta.SOURCE_LABEL, name)
        end = pull_job.job_end(job, pods)
        if end is not None and end.outcome is None:
            # The Job's news may come before its pod's: look before a result counts as lost.
            pods, _ = await self._context.client.list(PODS, namespace, labels=f"{meta.SOURCE_LABEL}={name}")
            for pod in pods:
                self._context.cache.put(PODS, pod)
        return tuple(pods)

    def _health(self, backend: LLMBackend) -> Health:
        pods = self._context.gateway_pods(backend.meta.namespace)
        view = self._context.reports.view(uid_of(p) for p in pods if is_ready(p))
        said = next((c for c in backend.status.conditions if c.type == BackendCondition.HEALTHY), None)
        was_up = None
        if said is not None and said.status is not ConditionStatus.UNKNOWN:
            was_up = said.status is ConditionStatus.TRUE
        folded = fold_backend(backend.meta.name, backend.meta.generation, view, was_up)
        if folded.up is None and view.pending and said and said.observed_generation == backend.meta.generation:
            old = backend.status.health
            return Health(was_up, old.state, old.reason, old.message, latency_ms=old.latency_ms)
        return folded

    async def _missing(self, backend: LLMBackend) -> Problem | None:
        """What an External backend names and does not get."""
        secrets, config_maps = await self._context.held(backend.meta.namespace, references([backend]))
        if (sentence := missing_secret(backend, secrets)) is not None:
            return Problem(Reason.SECRET_MISSING, sentence)
        bundle = ca_bundle(backend, secrets, config_maps)
        return Problem(Reason.CA_BUNDLE_MISSING, bundle) if isinstance(bundle, str) else None

    async def _read_events(self, children: list[Obj]) -> dict[str, tuple[Obj, ...]]:
        now = time.monotonic()
        for uid in [u for u, read in self._events.items() if now - read.at > FORGET_SECONDS]:
            del self._events[uid]
        out = {}
        for child in children:
            key, namespace = causes.events_key(child), child["metadata"]["namespace"]
            known = self._events.get(f"{namespace}/{key}")
            if known is None or now - known.at >= max(EVENTS_SECONDS, known.at - known.first):
                kind, _, name = key.rpartition("/")
                about = (
                    f"involvedObject.kind={kind},involvedObject.name={name}" if kind else f"involvedObject.uid={key}"
                )
                found, _ = await self._context.client.list(EVENTS, namespace, fields=about)
                found.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
                known = _EventsRead(known.first if known else now, now, tuple(found[-20:]))
                self._events[f"{namespace}/{key}"] = known
            out[key] = known.events
        return out


def written_out(backend: LLMBackend, settings: Settings) -> LLMBackend:
    """The backend with the profile of its GPUs written out. Raises `UnknownGpu`."""
    spec = resolve(backend.spec, settings.gpu_profiles)
    return backend if spec is backend.spec else replace(backend, spec=spec)


def without_figures(status: LLMBackendStatus) -> LLMBackendStatus:
    """The status without what changes all the time: that may wait for its turn."""
    models = tuple(
        m.model_copy(update={"completed_bytes": 0, "bytes_per_second": 0, "eta_seconds": None, "progress": ""})
        for m in status.models
    )
    status = without_latency(status)
    scaled = status.autoscaling.model_copy(update={"last_activity_time": ""}) if status.autoscaling else None
    return status.model_copy(update={"models": models, "models_summary": "", "autoscaling": scaled})


def without_latency(status: LLMBackendStatus) -> LLMBackendStatus:
    return status.model_copy(update={"health": status.health.model_copy(update={"latency_ms": None})})
