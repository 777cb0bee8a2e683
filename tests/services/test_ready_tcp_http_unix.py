"""Contract, "Ready and healthy": `tcp`, `unix` and `http`, for images that have no command to ask with."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from answering import OK, Does, Httpd, sends
from controlling import OTHER, Boxes, check, steadily
from harness import Started, wait_until
from serving import FOREVER, Server, events, wait_pid


def with_check(way: dict[str, object], **times: object) -> dict[str, object]:
    """A service with this healthcheck."""
    return {"command": FOREVER, "healthcheck": check(way, **times)}


def first_reason(started: Started) -> str:
    """Why the first probe has failed."""
    started.wait_log("not ready yet: ")
    wait_until(lambda: events(started, "web")[1:], "a whole line")
    return events(started, "web")[1].removeprefix("not ready yet: ")


# -- tcp ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [None, "127.0.0.1", "localhost", "LocalHost"])
def test_tcp_succeeds_once_somebody_listens(box: Boxes, unused_port: int, host: str | None) -> None:
    address = unused_port if host is None else f"{host}:{unused_port}"
    b = box({"web": with_check({"tcp": address}), "app": {"command": FOREVER, "depends_on": ["web"]}})
    assert first_reason(b.started) == "Connection refused"
    with socket.create_server(("127.0.0.1", unused_port)) as listening:
        wait_pid(b.started, "app")
        with closing(listening.accept()[0]) as connection:
            assert connection.recv(1) == b"", "nothing is said, and the connection is closed"


def test_tcp_speaks_IPv6(serve: Server) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        serve({"web": with_check({"tcp": f"[::1]:{listening.getsockname()[1]}"})}).wait_log("ready, ")


def test_localhost_is_127_0_0_1_and_nothing_else(serve: Server) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        started = serve({"web": with_check({"tcp": f"localhost:{listening.getsockname()[1]}"})})
        assert first_reason(started) == "Connection refused"


def test_tcp_to_a_port_that_answers_nothing_fails_after_its_timeout(serve: Server) -> None:
    """Its queue is full: the kernel drops what asks for a connection, tcp(7)."""
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        first.connect(listening.getsockname())
        started = serve({"web": with_check({"tcp": listening.getsockname()[1]}, timeout=0.5), "other": OTHER})
        assert first_reason(started) == "no end within 0.5 s"
        with closing(listening.accept()[0]):
            started.wait_log("ready, ")


def test_a_connection_with_itself_is_none(serve: Server) -> None:
    """Where nobody listens, and the kernel has given the connection's own end that very port: tcp(7).

    A client finds that out that connects to one of the ports of ip_local_port_range, now and then; here always.
    """
    alone = (
        'echo "40000 40000" >/proc/sys/net/ipv4/ip_local_port_range; '
        'python3 -c "import fcntl, socket, struct; '
        "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
        '"; exec "$@"'
    )
    prefix = ("unshare", "--net", "--mount", "sh", "-ec", alone, "sh")
    with_itself = serve({"web": with_check({"tcp": 40000})}, prefix=prefix)
    assert first_reason(with_itself) == "nobody listens there"
    http = serve({"web": with_check({"http": "http://127.0.0.1:40000"})}, prefix=prefix)
    assert first_reason(http) == "nobody listens there"


# -- unix --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    folder = Path(f"/tmp/{os.getpid()}-{tmp_path.name[:20]}")
    folder.symlink_to(tmp_path)
    yield folder
    folder.unlink()


def listen(path: Path, backlog: int = 5, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket at this path."""
    listening = socket.socket(socket.AF_UNIX, kind)
    listening.bind(str(path))
    if kind == socket.SOCK_STREAM:
        listening.listen(backlog)
    return listening


def test_unix_succeeds_once_somebody_listens(serve: Server, short: Path) -> None:
    path = short / "socket"
    started = serve({"web": with_check({"unix": str(path)}), "app": {"command": FOREVER, "depends_on": ["web"]}})
    assert first_reason(started) == "No such file or directory"
    listen(path).close()
    started.wait_log("not ready yet: Connection refused")
    path.unlink()
    with listen(path) as listening:
        wait_pid(started, "app")
        with closing(listening.accept()[0]) as connection:
            assert connection.recv(1) == b""


def test_a_daemon_is_not_asked_before_its_command_was_executed(serve: Server, short: Path) -> None:
    """Somebody else may listen there, as one of its last life that is still ending."""
    path = short / "socket"
    with listen(path, backlog=100):
        keys = {"command": "setsid sleep 1000 & exit 0", "daemon": True, "healthcheck": check({"unix": str(path)})}
        started = serve({"web": keys})
        started.wait_log("ready, ")
        assert [line.split()[0].rstrip(",") for line in events(started, "web")] == ["started", "ready"]
        # One that cannot be executed is never ready.
        keys["command"] = ["/no/such/command"]
        assert "ready, " not in serve.result({"web": keys})[2]


def test_a_unix_socket_whose_queue_is_full_is_a_failure(serve: Server, short: Path) -> None:
    with listen(short / "full", backlog=0) as listening, socket.socket(socket.AF_UNIX) as first:
        first.connect(listening.getsockname())
        started = serve({"web": with_check({"unix": str(short / "full")})})
        assert first_reason(started) == "nobody accepts connections"
        listening.accept()[0].close()
        started.wait_log("ready, ")


def test_what_is_no_socket_that_takes_connections_is_a_failure(serve: Server, short: Path) -> None:
    (short / "file").touch()
    assert first_reason(serve({"web": with_check({"unix": str(short / "file")})})) == "Connection refused"
    with listen(short / "datagrams", kind=socket.SOCK_DGRAM):
        reason = first_reason(serve({"web": with_check({"unix": str(short / "datagrams")})}))
    assert reason == "Protocol wrong type for socket"


def test_a_path_may_have_all_the_bytes_that_an_address_has(serve: Server, short: Path) -> None:
    path = f"{short}/{'x' * (107 - len(str(short)) - 1)}"
    with listen(Path(path)):
        serve({"web": with_check({"unix": path})}).wait_log("ready, ")


# -- http --------------------------------------------------------------------------------------------------------------


def test_http_sends_GET_with_HTTP_1_1(serve: Server, httpd: Httpd) -> None:
    serve({"web": with_check({"http": f"{httpd.address}/health?a=b&c"}, interval=3600)}).wait_log("ready, ")
    line, *headers, end, nothing = httpd.requests[0].split(b"\r\n")
    assert (line, end, nothing) == (b"GET /health?a=b&c HTTP/1.1", b"", b"")
    assert {b"Host: 127.0.0.1:%d" % httpd.port, b"Connection: close"} <= set(headers)


@pytest.mark.parametrize("path", ["", "/", "?q"])
def test_http_asks_for_the_root_where_no_path_is_given(serve: Server, httpd: Httpd, path: str) -> None:
    serve({"web": with_check({"http": httpd.address + path}, interval=3600)}).wait_log("ready, ")
    assert httpd.requests[0].startswith(b"GET %s HTTP/1.1\r\n" % (b"/?q" if path == "?q" else b"/"))


def test_http_speaks_IPv6(serve: Server, httpd6: Httpd) -> None:
    serve({"web": with_check({"http": f"{httpd6.address}/x"}, interval=3600)}).wait_log("ready, ")
    assert b"\r\nHost: [::1]:%d\r\n" % httpd6.port in httpd6.requests[0]


def test_http_at_localhost(serve: Server, httpd: Httpd) -> None:
    serve({"web": with_check({"http": f"http://localhost:{httpd.port}/"})}).wait_log("ready, ")


@pytest.mark.parametrize("code", [200, 201, 204, 226, 299, 300, 301, 302, 304, 399])
def test_2xx_and_3xx_are_success(serve: Server, httpd: Httpd, code: int) -> None:
    httpd.does = sends(b"HTTP/1.1 %d Whatever\r\nConnection: close\r\n\r\nbody" % code)
    started = serve({"web": with_check({"http": httpd.address}, start_interval=3600, start_period=7200)})
    started.wait_log("ready, ")


@pytest.mark.parametrize("code", [100, 101, 199, 400, 401, 404, 418, 499, 500, 503, 599, 999])
def test_any_other_code_is_a_failure(serve: Server, httpd: Httpd, code: int) -> None:
    httpd.does = sends(b"HTTP/1.1 %d What\x1bever\r\n\r\n" % code)
    started = serve({"web": with_check({"http": httpd.address})})
    assert first_reason(started) == f"the answer is HTTP/1.1 {code} What\\x1bever"
    assert len(httpd.requests) >= 1


@pytest.mark.parametrize(
    "does",
    [
        sends(b"HTTP/1.0 200 OK\r\n\r\n"),
        sends(b"HTTP/1.1 200\r\n"),
        sends(b"HTTP/1.1 200 \n"),
        sends(b"HTTP/2 204\n"),
        sends(*(OK[i : i + 1] for i in range(len(OK)))),
        sends(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"),
        sends(b"HTTP/1.1 200 " + b"y" * 8000 + b"\r\n\r\n"),
    ],
    ids=["1.0", "no-reason", "newline-alone", "2", "byte-by-byte", "megabyte-of-header", "long-reason"],
)
def test_the_first_line_of_the_answer_tells(serve: Server, httpd: Httpd, does: Does) -> None:
    httpd.does = does
    started = serve({"web": with_check({"http": httpd.address}, start_interval=3600, start_period=7200)})
    started.wait_log("ready, ")


def test_no_more_is_read_than_the_first_line(serve: Server, httpd: Httpd) -> None:
    """The rest of the answer may never come, and the connection is closed."""

    def does(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        httpd.wait_for_its_end(connection)

    httpd.does = does
    serve({"web": with_check({"http": httpd.address}, interval=3600)}).wait_log("ready, ")
    wait_until(lambda: httpd.ends, "the connection is closed")
    assert httpd.ends == [b""]


def reset(connection: socket.socket) -> None:
    """Close a connection by a reset: SO_LINGER of socket(7)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def for_ever(connection: socket.socket) -> None:
    """Send without an end, and without a newline."""
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (sends(), "there is no answer"),
        (sends(b"\r\n"), "the answer is no HTTP"),
        (sends(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "the answer is no HTTP"),
        (sends(b"\x15\x03\x01\x00\x02\x02F"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1 200 OK"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1\r\n"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1 OK 200\r\n"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1 +200 OK\r\n"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1 \xb2\xb0\xb0\r\n"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1 200" + b"0" * 5000 + b"\r\n"), "the answer is no HTTP"),
        (sends(b"HTTP/1.1 200 " + b"y" * 1_000_000), "the answer is no HTTP"),
        (for_ever, "the answer is no HTTP"),
        (reset, "Connection reset by peer"),
    ],
    ids=[
        "early",
        "empty",
        "ssh",
        "tls",
        "cut",
        "no-code",
        "swapped",
        "sign",
        "digits",
        "long",
        "line",
        "flood",
        "reset",
    ],
)
def test_what_is_no_answer_is_a_failure(serve: Server, httpd: Httpd, does: Does, reason: str) -> None:
    httpd.does = does
    started = serve({"web": with_check({"http": httpd.address}), "other": OTHER})
    assert first_reason(started) == reason
    httpd.does = sends(OK)
    started.wait_log("ready, ")


def test_an_answer_that_never_comes_is_a_failure_after_the_timeout(serve: Server, httpd: Httpd) -> None:
    httpd.does = httpd.wait_for_its_end
    started = serve({"web": with_check({"http": httpd.address}, timeout=0.5)})
    assert first_reason(started) == "no end within 0.5 s"
    wait_until(lambda: httpd.ends, "the connection is closed")
    httpd.does = sends(OK)
    started.wait_log("ready, ")


@pytest.mark.parametrize("way", ["tcp", "http"])
def test_probes_leave_no_descriptor_open(box: Boxes, httpd: Httpd, way: str) -> None:
    b = box({"web": with_check({"tcp": httpd.port} if way == "tcp" else {"http": httpd.address})})
    b.wait_for("web", state="ready")
    before = b.descriptors()
    for does in sends(OK), sends(b"garbage\n"), reset:
        httpd.does, count = does, len(httpd.requests)
        wait_until(lambda count=count: len(httpd.requests) >= count + 20, "20 probes")  # type: ignore[misc]
    assert not steadily(lambda: b.descriptors() > before, 0.1)
