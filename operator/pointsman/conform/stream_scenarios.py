"""What goes wrong within a stream: before its first content everything may move on, after it nothing may. Data only."""

from __future__ import annotations

from pointsman.conform.scenario import Right, Scenario
from pointsman.simulator.behaviour import Act, Behaviour, Pause, Piece, Raw, Words, streams
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, event

BEFORE = "Stream, before content"
AFTER = "Stream, after content"
WHOLE = "Odd but whole"

ERROR: dict[str, object] = {
    "error": {"message": "engine core died", "type": "server_error", "param": None, "code": None}
}
HALF_CHARACTER = Raw('data: {"choices":[{"index":0,"delta":{"content":"ü'.encode()[:-1])
SLOW_WORDS: tuple[Piece, ...] = (Words(1), Pause(0.4), Words(2, 1), Pause(0.4), Words(3, 2), Pause(0.4), Words(None, 3))
PING = Raw(b": ping\n\n")


def _rows(group: str, right: Right, *rows: tuple[str, str, Behaviour, int]) -> list[Scenario]:
    return [Scenario(n, group, right, why, (behave,), stream=True, silent=silent) for n, why, behave, silent in rows]


async def endless_stream(connection: Connection, request: Request) -> None:
    await connection.open_stream()
    while True:
        await connection.chunk(event(ROLE) * 512)


def _pings(*before: Piece) -> Behaviour:
    """Comments for four times as long as anybody waits."""
    pings: tuple[Piece, ...] = (PING, Pause(0.1))
    return streams(*before, *pings * 40)


STREAMS: list[Scenario] = [
    *_rows(
        BEFORE,
        Right.FALLBACK,
        ("role, then silence", "the engine took the prompt and hangs", streams(ROLE, Act.SILENCE), 1),
        ("comments for ever", "a proxy's keep-alive is no sign of life", _pings(ROLE), 1),
        ("error event first", "the status was sent before the engine failed", streams(ERROR, DONE, Act.END), 0),
        ("error event after the role", "the same, a moment later", streams(ROLE, ERROR, DONE, Act.END), 0),
        ("cut before content", "a pod that died during the prompt", streams(ROLE, Act.CUT), 0),
        ("reset before content", "a node that died during the prompt", streams(ROLE, Act.RESET), 0),
        ("cut within the first character", "bytes are not characters", streams(ROLE, HALF_CHARACTER, Act.CUT), 0),
        ("malformed frame first", "not JSON", streams(Raw(b"data: {not json\n\n"), Act.END), 0),
        ("clean end, no content", "ends as it should and says nothing", streams(ROLE, FINISH, DONE, Act.END), 0),
        ("quiet events for ever", "nothing is said, at great length", endless_stream, 0),
        ("[DONE], nothing else", "a worker that lost its engine", streams(DONE, Act.END), 0),
        ("ends without a frame", "a body of no bytes", streams(Act.END), 0),
    ),
    *_rows(
        AFTER,
        Right.BREAK,
        ("error event after content", "it must reach the client", streams(ROLE, Words(2), ERROR, Act.END), 0),
        ("cut mid-content", "a pod killed while it speaks", streams(ROLE, Words(2), Act.CUT), 0),
        ("reset mid-content", "a node lost while it speaks", streams(ROLE, Words(2), Act.RESET), 0),
        ("cut within a character", "half a character is no text", streams(ROLE, Words(2), HALF_CHARACTER, Act.CUT), 0),
        ("clean end mid-answer", "no finish_reason: it is not complete", streams(ROLE, Words(2), Act.END), 0),
        ("[DONE] mid-answer", "no finish_reason: it is not complete", streams(ROLE, Words(2), DONE, Act.END), 0),
        ("malformed frame mid-answer", "not JSON", streams(ROLE, Words(2), Raw(b"data: {not json\n\n"), Act.END), 0),
        ("silence mid-answer", "the GPU hangs between tokens", streams(ROLE, Words(2), Act.SILENCE), 1),
        ("comments mid-answer for ever", "a keep-alive is no token", _pings(ROLE, Words(2)), 1),
    ),
    *_rows(
        WHOLE,
        Right.FIRST,
        ("no [DONE] at the end", "complete by its finish_reason", streams(ROLE, Words(), FINISH, Act.END), 0),
        ("cut behind the finish_reason", "complete all the same", streams(ROLE, Words(), FINISH, Act.CUT), 0),
        ("slow first token", "slow is not broken", streams(Pause(0.4), ROLE, Words(), FINISH, DONE, Act.END), 0),
        ("slow after the role", "slow is not broken", streams(ROLE, Pause(0.4), Words(), FINISH, DONE, Act.END), 0),
        ("slow between tokens", "slow is not broken", streams(ROLE, *SLOW_WORDS, FINISH, DONE, Act.END), 0),
    ),
]
