"""A server with a key that tests know beforehand, of the Unix socket's tenant."""

from __future__ import annotations

import hashlib
import sys
from contextlib import closing

from sandcove.home import Home
from sandcove.server.__main__ import main
from sandcove.server.database import Database
from sandcove.server.keys import Key, Keys
from sandcove.wire.clock import timestamp
from sandcove.wire.keys import Limits

_SECRET = "a" * 52
KEY = f"sck_k_aaaaaaaa_{_SECRET}"


def put_key(home: Home) -> None:
    """Before the server starts."""
    home.make()
    with closing(Database(home.registry)) as database:
        digest = hashlib.sha256(_SECRET.encode()).digest()
        key = Key("k_aaaaaaaa", "local", "", digest, frozenset({"admin", "sandboxes"}), Limits(), timestamp(), None)
        Keys(database)._put(key)


if __name__ == "__main__":
    put_key(Home.default())
    sys.exit(main())
