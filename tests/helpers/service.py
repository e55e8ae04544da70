"""A real `mtsearch serve` in a separate process, on a free port."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Service:
    """A running service: its process, its URL, and its later output on stderr."""

    process: subprocess.Popen[str]
    url: str
    log: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    """Start the service, wait until it answers, and end it after the block.

    Raises:
        RuntimeError: it ended before it was ready.
    """
    command = [sys.executable, "-m", "mtsearch", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = re.search(r"http://[^;]+", line)
            if not found:
                raise RuntimeError(line + process.stderr.read())
            service = Service(process, found[0])
            reader = threading.Thread(target=lambda: service.log.extend(process.stderr or ()))
            reader.start()
            yield service
        finally:
            process.terminate()
            process.wait(20)
        reader.join()
