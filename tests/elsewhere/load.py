"""Clients that send requests without pause to an address of HTTP, until stdin is closed, and check every response.

    python tests/elsewhere/load.py HOST PORT

For each line on stdin it prints one of JSON: how many requests there were, which failed, how long the slowest took.
It knows nothing of the rest, since it is started in the network namespace of a node.
"""

import http.client
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

CLIENTS = 4
PAUSE = 0.01
"""Seconds between two requests of a client: a busy machine has to go on with all else."""
PATIENCE = 30.0
"""Seconds after which a request has failed."""
LONGEST = 900.0
"""Seconds after which the clients end, whatever becomes of who has started them."""


@dataclass
class Told:
    """What there is to tell."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0


def request(host: str, port: int) -> None:
    """Send a request, with a connection of its own; raise if the response is not a whole one."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()  # raises if it is shorter than it was said to be
        if response.status != 200 or not body:
            raise ValueError(f"status {response.status}, {len(body)} bytes")
    finally:
        connection.close()


def client(host: str, port: int, told: Told, lock: threading.Lock) -> None:
    """Send one request after the other."""
    end = time.monotonic() + LONGEST
    while (begin := time.monotonic()) < end:
        failed = []
        try:
            request(host, port)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = [f"{time.strftime('%H:%M:%S')} {error!r}"]
        with lock:
            told.requests += 1
            told.failed += failed
            told.slowest = max(told.slowest, time.monotonic() - begin)
        time.sleep(PAUSE)


def main() -> None:
    """Start the clients, and tell what is asked for."""
    host, port = sys.argv[1], int(sys.argv[2])
    told, lock = Told(), threading.Lock()
    for _ in range(CLIENTS):
        threading.Thread(target=client, args=(host, port, told, lock), daemon=True).start()
    for _ in sys.stdin:
        with lock:
            print(json.dumps(asdict(told)), flush=True)


if __name__ == "__main__":
    main()
