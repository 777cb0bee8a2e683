"""The image of all cases: `run`, a static busybox, files of services; no library, no /tmp, nothing else."""

import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from boxes import MissingError
from engine import layer_of
from serving import AWAKE, FOREVER, Line, Services, file_of

APPLETS = "sh sleep setsid echo cat id grep touch true kill httpd nc date"


def free_ports(number: int) -> list[int]:
    """Ports that nobody uses: some engines give containers the network of the machine."""
    with ExitStack() as stack:  # none is free again before all are found: they differ
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


PORT, *PORTS = free_ports(3)
LINES = 20000
"""How many lines each service writes, where all are counted."""

WRITE = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i of $0; done"

FILES: dict[str, Services] = {
    "two": {
        "web": {"command": f"echo up; {FOREVER}", "depends_on": ["db"], "restart": "always", "restart_delay": 0.1},
        "db": {"command": f"echo up; {FOREVER}"},
    },
    "ill": {"web": {"command": FOREVER}, "db": {"command": FOREVER, "healthcheck": {"unix": "/not/there"}}},
    "stubborn": {"web": {"command": f"trap '' TERM; echo deaf; {AWAKE}"}},
    "daemon": {
        "web": {
            "command": Line(f"httpd -p 127.0.0.1:{PORT} -h /etc"),
            "daemon": True,
            "healthcheck": {"http": f"http://127.0.0.1:{PORT}/two.toml", "start_interval": 0.1},
        }
    },
    "lines": {
        "a": {"command": ["/bin/sh", "-c", WRITE.replace("$", "$$"), "a"], "oneshot": True},
        "b": {"command": ["/bin/sh", "-c", f"{WRITE}; kill -9 $$".replace("$", "$$"), "b"], "oneshot": True},
    },
    "users": {
        name: {"command": "id -u; id -g; echo anew >/dev/stdout", "user": user, "oneshot": True}
        for name, user in (("a", "1000:1001"), ("b", "33"), ("c", "0:0"))
    },
    "unmapped": {"web": {"command": FOREVER, "user": "1999999999:1999999999"}},
}
"""The files /etc/NAME.toml."""

TOP: dict[str, dict[str, object]] = {"stubborn": {"stop_grace_period": 1}}
"""The keys of the file itself."""


def layer(binary: Path) -> bytes:
    """A tar file of the image's one layer."""
    busybox = shutil.which("busybox")
    if busybox is None or b"ld-linux" in Path(busybox).read_bytes()[:4096]:
        raise MissingError("there is no static busybox (Debian's package busybox-static)")
    files: dict[str, Path | str] = {"bin/run": binary, "bin/busybox": Path(busybox)}
    files |= {f"bin/{applet}": "busybox" for applet in APPLETS.split()}
    with tempfile.TemporaryDirectory() as folder:
        for name, services in FILES.items():
            path = Path(folder) / name
            path.write_text(file_of(services, **TOP.get(name, {})))
            files[f"etc/{name}.toml"] = path
        files["www/index.html"] = path  # for the examples' web server
        return layer_of(files)
