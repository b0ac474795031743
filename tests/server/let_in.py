"""A server whose TCP listener lets in who shows the key ``let-me-in``, as a tenant like the Unix socket's."""

from __future__ import annotations

import sys

from starlette.types import Scope

from sandcove.errors import UnauthorizedError
from sandcove.server.__main__ import main
from sandcove.server.caller import LOCAL, Caller

KEY = "let-me-in"


def authenticate(scope: Scope) -> Caller:
    if dict(scope["headers"]).get(b"authorization") != f"Bearer {KEY}".encode():
        raise UnauthorizedError("this is not the key")
    return Caller(LOCAL.tenant, LOCAL.scopes, "k_test")


if __name__ == "__main__":
    sys.exit(main(authenticate))
