"""The condition Fits: do the models and their context fit the GPUs that a backend asks for? Pure.

Decided here: which GPU's memory counts (that of the node the pods are on; without one, the largest that they could get)
and which of several models speaks (the one that needs most: an engine with several need not hold all at once). The
arithmetic is `engines/memory.py`. Nothing else goes by this condition: it is an estimate, told before an engine tries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pointsman.api.backend_status import ModelFigures, ModelStatus
from pointsman.api.conditions import Reason
from pointsman.api.model import Model
from pointsman.controllers.conditions import Verdict
from pointsman.controllers.model_status import ModelView
from pointsman.controllers.observed import Observed
from pointsman.controllers.placing import GpuView
from pointsman.domain.figures import Figures
from pointsman.engines.gpus import memory_of
from pointsman.engines.memory import GIB, Demand, Estimate, demand, estimate


def with_figures(views: Iterable[ModelView], seen: Observed) -> tuple[ModelStatus, ...]:
    """The models' status, each pulled one with the figures that its pull read."""
    known = {m.name: m.figures for m in seen.backend.status.models if m.figures}
    out = []
    for view in views:
        model = view.status
        figures = _kept(view.figures) if view.figures else known.get(model.name)
        out.append(model.model_copy(update={"figures": figures}) if model.state == "Pulled" and figures else model)
    return tuple(out)


def fits(seen: Observed, models: Iterable[ModelStatus]) -> Verdict:
    """`models`: with their figures."""
    spec, view = seen.backend.spec, seen.gpus
    if spec.gpu is None or view is None:
        return Verdict(None, Reason.NO_GPU, "spec.gpu is not set: there is nothing to fit")
    memory = _memory(view, seen)
    if memory is None:
        return Verdict(
            None,
            Reason.FIT_UNKNOWN,
            "the GPU's memory is not known: no node label says it; spec.gpu.memory, or that of a profile, would",
        )
    by_name: Mapping[str, ModelStatus] = {m.name: m for m in models}
    found: list[tuple[Estimate, Demand, Model]] = []
    for model in spec.models:
        status = by_name.get(model.name)
        if status is None or status.figures is None:
            pulled = status is not None and status.state == "Pulled"
            why = "its files do not say how large it is" if pulled else "it is not pulled yet"
            return Verdict(None, Reason.FIT_UNKNOWN, f"model {model.name}: {why}")
        figures = _read(status.figures)
        wants = demand(spec, model, figures, memory)
        if isinstance(wants, str):
            return Verdict(None, Reason.FIT_UNKNOWN, f"model {model.name}: {wants}")
        found.append((estimate(figures, wants, memory, _count(view)), wants, model))
    worst = max(found, key=lambda f: f[0].needs)
    return Verdict(worst[0].fits, Reason.FITS_GPU if worst[0].fits else Reason.TOO_LARGE, _sentence(*worst, view))


def _memory(view: GpuView, seen: Observed) -> int | None:
    """Bytes of one GPU."""
    need = view.need
    if need.memory is not None:
        return need.memory
    on = {(p.get("spec") or {}).get("nodeName") for p in seen.pods}
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for node in view.nodes or ():
        if not node.gpus.get(need.resource) or (need.product and node.labels.get(need.product_label) != need.product):
            continue
        if (size := memory_of(need.resource, need.vendor, node.labels)) is not None:
            sizes[node.name in on].append(size)
    return min(sizes[True]) if sizes[True] else max(sizes[False], default=None)


def _count(view: GpuView) -> int:
    """The GPUs of a replica."""
    return view.need.count * view.spec.pods_of_a_replica


def _sentence(found: Estimate, wants: Demand, model: Model, view: GpuView) -> str:
    each = f" for each of {wants.sequences} slots" if wants.sequences > 1 else ""
    count = _count(view)
    of = f"{count} GPUs" if count > 1 else "the GPU"
    share = f" ({wants.percent} % of {'them' if count > 1 else 'it'})" if wants.percent < 100 else ""
    sum_ = (
        f"model {model.name} needs about {_gib(found.needs)} GiB (weights {_gib(found.weights)}, {found.tokens} tokens"
        f"{each} {_gib(found.cache)}, the engine {_gib(found.own)}) and {of} {'have' if count > 1 else 'has'}"
        f" {_gib(found.has)} GiB{share}"
    )
    if found.fits:
        return f"{sum_}; at most {found.most} tokens would fit" if found.most < 1 << 29 else sum_
    then = "a part will run on the CPU, slowly" if wants.spills else "the engine is not likely to start"
    ask = "ask for more GPUs or a smaller quantisation"
    if found.most:
        ask = f"ask for a context of at most {found.most} tokens, or for more GPUs"
    return f"{sum_}: {then}; {ask}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f}"


def _kept(figures: Figures) -> ModelFigures:
    return ModelFigures(
        weights=figures.weights,
        kv=figures.kv,
        window_kv=figures.window_kv,
        window=figures.window,
        context=figures.context,
    )


def _read(figures: ModelFigures) -> Figures:
    return Figures(
        weights=figures.weights,
        kv=figures.kv,
        window_kv=figures.window_kv,
        window=figures.window,
        context=figures.context,
    )
