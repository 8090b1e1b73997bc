"""What a relayed request asks of the connection that it came on."""

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
