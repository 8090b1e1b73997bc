"""Which lookup does a request begin that asks for what backends keep?

Decided here: what is asked of whom, from the address and the query. Not here: how it goes (`relay/lookup.py`), who may
keep it (`domain/stored.py`).

A list belongs to one backend: two of them put together would be nobody's, and its pages could not be turned. The
model's route says whose it is, or the id behind which it is to go on; without both there must be only one.
"""

from __future__ import annotations

from urllib.parse import unquote

from pointsman.dialects.openai_stored import (
    CHATS,
    WrongMethod,
    after,
    listed_model,
    model_path,
    stored_call,
    well_formed,
    with_model,
)
from pointsman.dialects.request import Complaint
from pointsman.domain.health import State
from pointsman.domain.stored import Shelf, keepers, may_list, shelves
from pointsman.domain.table import Endpoint, Keeps
from pointsman.gateway.front.request_reader import Request
from pointsman.gateway.relay.datapath import DataPath
from pointsman.gateway.relay.lookup import Question

MODELS = "/models/"
Wanted = tuple[Question, list[Shelf]]


def wanted(path: DataPath, request: Request) -> Wanted | Complaint | WrongMethod | None:
    """What is asked, and where it may be; None when the address names nothing that is kept."""
    method = request.method.decode("latin-1")
    address = request.path.removeprefix(b"/v1").decode("latin-1")
    if not well_formed(request.query):
        return Complaint(400, "the query of the address is malformed", "malformed_query")
    if address == CHATS:
        return _list(path, request)
    if address.startswith(MODELS):
        return _model(path, unquote(address[len(MODELS) :]))
    call = stored_call(method, address)
    if call is None or isinstance(call, WrongMethod):
        return call
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return Complaint(415, "send the body without Content-Encoding", "unsupported_encoding")
    known = path.learnt.kept.place(call.id)
    places = shelves(keepers(path.state.table), known, lambda e: _fit(path, e))
    question = Question(f"{call.what} {call.id}", call.id, method, _target(call.path, request.query), request.body)
    return question, places


def _list(path: DataPath, request: Request) -> Wanted | Complaint:
    """The chats that one backend keeps."""
    table = path.state.table
    query = request.query
    model = listed_model(query)
    found = table.find(model) if model is not None else None
    if model is not None and found is None:
        return Complaint(404, f"no route serves the model {model[:128]!r}", "model_not_found", "model")
    backends = may_list(table, model)
    cursor = after(query)
    known = path.learnt.kept.place(cursor) if cursor is not None else None
    there = [b for b in backends if any(e.key == known for e in b.endpoints)]
    chosen = there or (backends if model is None else backends[:1])
    if not chosen:
        return _closed("its stored chats be listed")
    if len(chosen) > 1:
        names = ", ".join(b.name for b in chosen)
        return Complaint(
            400, f"name a model whose chats you want: there are those of {names}", "model_required", "model"
        )
    if found is not None:
        target = next(t for t in found[1].targets if t.backend is chosen[0])
        query = with_model(query, target.upstream_model)
    places = shelves(chosen, known, lambda e: _fit(path, e))
    return Question("list of stored chats", "", "GET", _target(CHATS, query)), places


def _model(path: DataPath, name: str) -> Wanted | Complaint:
    """A model of a provider, such as a tuned one, is deleted by the name that a route has for it."""
    found = path.state.table.find(name)
    if found is None:
        return Complaint(404, f"no route serves the model {name[:128]!r}", "model_not_found", "model")
    target = next((t for t in found[1].targets if t.backend.keeps is Keeps.ALL), None)
    if target is None:
        return _closed("its models be deleted")
    places = shelves([target.backend], None, lambda e: _fit(path, e))
    return Question(f"model {name}", "", "DELETE", model_path(target.upstream_model)), places


def _closed(what: str) -> Complaint:
    return Complaint(403, f"no backend lets {what}: external.stored of its LLMBackend must be All", "not_allowed")


def _target(address: str, query: bytes) -> str:
    return f"{address}?{query.decode('ascii')}" if query else address


def _fit(path: DataPath, endpoint: Endpoint) -> bool:
    machine = path.health.machine(endpoint.key)
    return machine is None or machine.state is not State.UNHEALTHY
