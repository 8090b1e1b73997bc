"""An engine that costs nothing: an answer is a word each half second. It runs in a pod of ours with our own image, and
tells the ledger what it does with each request, over one connection that ends when it ends.

The pod has no file of the tests, so this module's source is handed to it as an argument: it imports only what the
image has.
"""

import asyncio
import os
import signal
import sys

from pointsman.simulator.backend import SimulatedBackend
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, completion, delta, event


async def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    _, ledger = await asyncio.open_connection(host, int(port))

    def tell(what: str, request: Request) -> None:
        ledger.write(f"{os.environ['HOSTNAME']} {what} {request.json['messages'][-1]['content']}\n".encode())

    async def says(connection: Connection, request: Request) -> None:
        tell("begin", request)
        words = [request.json["messages"][-1]["content"], *(f" {n}" for n in range(1, request.json["max_tokens"]))]
        try:
            if request.stream:
                await connection.open_stream()
                await connection.chunk(event(ROLE))
            for word in words:
                await asyncio.sleep(float(sys.argv[2]))
                if request.stream:
                    await connection.chunk(event(delta(word)))
            if request.stream:
                await connection.chunk(event(FINISH))
                await connection.chunk(event(DONE))
                await connection.end_stream()
            else:
                await connection.answer(200, completion("".join(words)))
        except BaseException:
            tell("cut", request)
            raise
        tell("end", request)

    engine = SimulatedBackend("burst", ("burst",), 60)
    engine.choose = lambda request: says
    await engine.start("0.0.0.0", 8000)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await engine.refuse()
    ledger.close()
    await ledger.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
