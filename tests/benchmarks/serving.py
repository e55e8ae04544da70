"""Measure the speed of `mtsearch serve` over loopback, with one client and with many.

    python -m tests.benchmarks.serving [DIR] [--requests 10000] [--connections 32]

Without a model folder it asks a random model of MovieLens 100K's size. Prints the latencies of a known user's ten
recommendations, errors (an answer that is no 200 or not the user's) and requests per second. The client takes its
share of the same cores. About a minute on 2 cores.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.helpers.served_double import write_model
from tests.helpers.service import running

WARM_UP = 100


@dataclass(frozen=True)
class Load:
    """The result of one load: seconds of each request, errors, seconds in all."""

    connections: int
    latencies: list[float]
    errors: int
    wall: float

    def line(self) -> str:
        """Return milliseconds and rate as a line for people."""
        p50, p90, p99 = np.percentile(np.array(self.latencies) * 1000, [50, 90, 99])
        return (
            f"{self.connections:>3} connections: p50 {p50:.2f} ms, p90 {p90:.2f} ms, p99 {p99:.2f} ms, "
            f"{self.errors} errors, {len(self.latencies) / self.wall:.0f} requests/s"
        )


class Client:
    """An HTTP client with one open connection; httpx would take more processor time than the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def get(self, target: str) -> tuple[int, bytes]:
        """Return status and body."""
        self._writer.write(f"GET {target} HTTP/1.1\r\nHost: benchmark\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()


async def load(port: int, users: list[str], requests: int, connections: int) -> Load:
    """Send `requests` requests for recommendations; each connection sends one after the other."""
    latencies: list[float] = []
    errors = 0
    turn = iter(range(requests))

    async def client() -> None:
        nonlocal errors
        http = Client(*await asyncio.open_connection("127.0.0.1", port))
        for number in turn:
            user = users[number % len(users)]
            begun = time.perf_counter()
            status, body = await http.get(f"/recommend?user={user}&k=10")
            latencies.append(time.perf_counter() - begun)
            errors += status != 200 or not body.startswith(b'{"user":"%s","known":true,"items":[' % user.encode())
        await http.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return Load(connections, latencies, errors, time.perf_counter() - begun)


def measure(folder: Path, users: list[str], requests: int, connections: int) -> list[Load]:
    """Measure one client, then many, each against a new service."""
    with running(folder) as service:
        asyncio.run(load(service.port, users, WARM_UP, 1))
        return [asyncio.run(load(service.port, users, requests, clients)) for clients in (1, connections)]


def main() -> None:
    """Measure and print.

    Raises:
        SystemExit: a request failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR")
    parser.add_argument("--requests", type=int, default=10_000, help="for each of the two loads")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or write_model(Path(scratch), users=943, items=1664, size=64)
        users = [str(user) for user in range(1, 944)]
        loads = measure(folder, users, options.requests, options.connections)
    print(f"{len(os.sched_getaffinity(0))} cores, {options.requests} requests each")
    for result in loads:
        print(result.line())
    sys.exit(any(result.errors for result in loads))


if __name__ == "__main__":
    main()
