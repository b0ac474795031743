"""A server that also listens on TCP, for callers with keys; says its port on standard output.

python -P -m tests.served_on_tcp
"""

from __future__ import annotations

import socket

from sandcove import linux
from sandcove.home import Home
from sandcove.runtimes.local.zygote import Zygote
from sandcove.server.__main__ import _only_one
from sandcove.server.config import load
from sandcove.server.serve import serve


def main() -> None:
    home = Home.default()
    home.make()
    with _only_one(home, 0), socket.create_server(("127.0.0.1", 0)) as tcp:
        zygote = Zygote(home.path)
        zygote.spawn()
        linux.raise_open_files()
        port = tcp.getsockname()[1]
        serve(home, load({}), zygote, auto=False, tcp=tcp, ready=lambda: print(port, flush=True))


if __name__ == "__main__":
    main()
