"""What a request that is being answered and the connection that it came on ask of each other."""

from __future__ import annotations


class Client:
    """The side that writes to the client; `front/server.py` has the sockets."""

    __slots__ = ()

    def reply(self, data: bytes) -> None:
        """A whole answer."""
        raise NotImplementedError

    def begin(self, content_type: bytes, extra: bytes, keep_alive: bool) -> None:
        """The head of an answer whose length is unknown."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """A piece of its body."""
        raise NotImplementedError

    def end(self, last: bytes) -> None:
        """The last of its body."""
        raise NotImplementedError

    def abort(self) -> None:
        """Breaks the connection off: the client must not take what it has for a whole answer."""
        raise NotImplementedError

    def finished(self, now: float) -> None:
        """The request is answered."""
        raise NotImplementedError

    def consumer(self) -> str:
        """Whose turn it takes in a queue."""
        raise NotImplementedError

    def release_body(self) -> None:
        """The request's body is not needed any more."""
        raise NotImplementedError

    def set_deadline(self, deadline: float) -> None:
        """When the request wants to be woken."""
        raise NotImplementedError


class Served:
    """A request that is being answered."""

    __slots__ = ("once",)

    def __init__(self) -> None:
        self.once = False
        """The body is not kept once it was sent."""

    def start(self) -> None:
        raise NotImplementedError

    def client_gone(self) -> None:
        """Nobody waits for its answer any more."""
        raise NotImplementedError

    def client_slow(self, slow: bool) -> None:
        """The client does not take what it is sent, or takes it again."""
        raise NotImplementedError

    def on_deadline(self, now: float) -> None:
        """The moment has come for which it asked."""
        raise NotImplementedError
