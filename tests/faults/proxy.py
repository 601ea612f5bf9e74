"""A proxy between a client and the object server that breaks things on purpose, and counts.

It speaks just enough HTTP to know where a request and an answer end: only then can it swallow an
answer after the server has acted, or cut a body in the middle.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

BURST = 5
"""Requests in a row that a burst of errors answers."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    head: bytes
    body: bytes


@dataclass
class Plan:
    """Which fault befalls a request: a seeded lottery, or what `script` says.

    Attributes
    ----------
    weights : fault -> weight; kinds are the names of the methods of `Proxy` below.
    rate : share of the requests that are hit.
    stall_s : how long a stalled request waits.
    script : called first; None leaves it to the lottery.
    """

    rate: float = 0.0
    stall_s: float = 1.0
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "reset": 3, "cut_request": 2, "burst_500": 1, "burst_503": 1, "stall": 0.5,
            "truncate": 3, "swallow": 4, "slow": 2,
        }
    )  # fmt: skip
    seed: int = 7
    script: Callable[[Request], str | None] = lambda _: None


class Proxy:
    """Listens on loopback, in a thread of its own, and forwards to `target`."""

    def __init__(self, target: int, plan: Plan) -> None:
        self.target, self.plan = target, plan
        self.injected: Counter[str] = Counter()
        self._lottery = random.Random(plan.seed)
        self._burst = ("", 0)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=256)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        while left := asyncio.all_tasks(self._loop):  # those just accepted begin meanwhile
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            request = await _read_request(reader, writer)
            fault = self._fault(request)
            if fault:
                self.injected[fault] += 1
            await getattr(self, f"_{fault}" if fault else "_forward")(request, writer)
        with suppress(OSError, RuntimeError):
            writer.close()

    def _fault(self, request: Request) -> str:
        scripted = self.plan.script(request)
        if scripted is not None:
            return scripted
        kind, left = self._burst
        if left:
            self._burst = (kind, left - 1)
            return kind
        if self._lottery.random() >= self.plan.rate:
            return ""
        kinds, weights = zip(*self.plan.weights.items(), strict=True)
        (drawn,) = self._lottery.choices(kinds, weights)
        if drawn.startswith("burst"):
            self._burst = (drawn, BURST - 1)
        return str(drawn)

    async def _forward(self, request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(await self._ask(request))
        await writer.drain()

    async def _ask(self, request: Request, share: float = 1.0) -> bytes:
        """Send a request, or the first part of its body only; return the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            writer.write(request.head)
            writer.write(request.body[: int(len(request.body) * share)])
            await writer.drain()
            return await reader.read() if share == 1.0 else b""
        finally:
            writer.close()

    # The faults ---------------------------------------------------------------------------------

    async def _reset(self, _: Request, writer: asyncio.StreamWriter) -> None:
        """Nothing reaches the server; the client sees its connection reset."""
        _abort(writer)

    async def _cut_request(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """The server gets half of the body and then nothing more."""
        await self._ask(request, 0.5)
        _abort(writer)

    async def _burst_500(self, _: Request, writer: asyncio.StreamWriter) -> None:
        await _say(writer, 500, "InternalError")

    async def _burst_503(self, _: Request, writer: asyncio.StreamWriter) -> None:
        await _say(writer, 503, "SlowDown")

    async def _stall(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """The server acts late, perhaps after the client has given up and asked again."""
        await asyncio.sleep(self.plan.stall_s)
        await self._forward(request, writer)

    async def _truncate(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """The answer promises all of its body and ends in the middle."""
        answer = await self._ask(request)
        head, separator, body = answer.partition(b"\r\n\r\n")
        writer.write(head + separator + body[: len(body) // 2])
        await writer.drain()
        if not body:
            _abort(writer)

    async def _swallow(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """The server has acted, and nobody hears of it."""
        await self._ask(request)
        _abort(writer)

    async def _slow(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """The answer drips."""
        answer = await self._ask(request)
        step = max(1, len(answer) // 10)
        for start in range(0, len(answer), step):
            writer.write(answer[start : start + step])
            await writer.drain()
            await asyncio.sleep(0.03)


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    headers = {k.strip().lower(): v.strip() for k, _, v in (x.partition(b":") for x in lines[1:])}
    if headers.get(b"expect", b"").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    assert b"transfer-encoding" not in headers, "a body of known length is expected"
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    # One connection a request: then the end of the answer is the end of the connection.
    dropped = (b"expect", b"connection")
    kept = [x for x in lines[1:] if x.partition(b":")[0].strip().lower() not in dropped]
    method, path, _ = lines[0].decode().split(" ", 2)
    head = b"\r\n".join([lines[0], *kept, b"Connection: close", b"", b""])
    return Request(method, path, head, body)


async def _say(writer: asyncio.StreamWriter, status: int, code: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    writer.write(
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )
    await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
