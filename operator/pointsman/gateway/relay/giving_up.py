"""What the client gets when nobody gave a good answer: what a backend said, or our own word for it.

Decided here: whose refusal is passed on, and how either reaches a client whose stream was begun to keep it patient. Not
here: the status and the sentences (`domain/attempts.py`), when it is time to give up (`exchange.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pointsman.domain.attempts import all_empty, surrender
from pointsman.domain.candidates import Ordering
from pointsman.domain.judging import message_in
from pointsman.domain.verdict import Judgement, Verdict, Why
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.answers import Refusal

if TYPE_CHECKING:
    from pointsman.gateway.relay.attempt import Attempt
    from pointsman.gateway.relay.exchange import Exchange

_NOBODY_ASKED: Final = Judgement(Verdict.FAILURE, Why.UNREACHABLE)


def give_up(exchange: Exchange, ordering: Ordering, now: float) -> None:
    """Nobody is left to be asked. `ordering` says who was not, and why."""
    tried = exchange.tried
    if exchange.empty is not None and exchange.last is not None and all_empty(tried):
        note = b"x-pointsman-verdict: EmptyAnswer\r\n"
        pass_refusal(exchange, exchange.last, exchange.empty, tried[-1].judged, note)
        return
    if exchange.unfit is not None and all(t.judged.verdict is Verdict.UNFIT for t in tried):
        answer, attempt = exchange.unfit
        pass_refusal(exchange, attempt, answer, tried[0].judged)
        return
    given = surrender(exchange.request.model, tried, ordering.excluded, now, late=now >= exchange.total_at)
    exchange.last = None
    if _head_sent(exchange):
        exchange.client.end(_error_event(exchange, given.message, given.code))
    else:
        exchange.status = given.status
        exchange.client.reply(replies.surrendered(given, tried, exchange.id, exchange.alive(), exchange.notes()))
    exchange.finish(tried[-1].judged if tried else _NOBODY_ASKED, None, now)


def pass_refusal(exchange: Exchange, attempt: Attempt, answer: Refusal, judged: Judgement, extra: bytes = b"") -> None:
    """What a backend said is what the client gets."""
    now = exchange.clock()
    extra = exchange.provenance(attempt, now) + extra
    if _head_sent(exchange):
        exchange.client.write(replies.as_comments(extra))
        exchange.client.end(answer.body if answer.status == 200 else _as_event(exchange, answer))
    else:
        exchange.status = answer.status
        content_type = answer.content_type or replies.JSON
        exchange.client.reply(replies.whole(answer.status, content_type, extra, answer.body, exchange.alive()))
    exchange.finish(judged, None, now)


def _head_sent(exchange: Exchange) -> bool:
    """The client was kept patient: it has its status already."""
    return exchange.waiting is not None and exchange.waiting.head_sent


def _as_event(exchange: Exchange, answer: Refusal) -> bytes:
    message = message_in(answer.body) or f"the backend answered with status {answer.status}"
    return _error_event(exchange, message, None)


def _error_event(exchange: Exchange, message: str, code: str | None) -> bytes:
    """The last event of a stream that was begun to keep the client patient, in the client's dialect."""
    return exchange.operation.open_stream(exchange.request).error_event(message, "upstream_error", code)
