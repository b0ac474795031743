"""`keys`: the keys of a server for callers over TCP."""

from __future__ import annotations

import sys
from argparse import Namespace

from sandcove.cli.sandboxes import client
from sandcove.errors import NotFoundError
from sandcove.wire.codec import encode
from sandcove.wire.keys import CreateKey, Limits

__all__ = ["keys"]


def keys(options: Namespace) -> int:
    """`sandcove keys`: one of its own commands."""
    return {"create": _create, "ls": _ls, "revoke": _revoke}[options.keys_command](options)


def _create(options: Namespace) -> int:
    made = client().create_key(
        CreateKey(
            tenant=options.tenant,
            name=options.name or "",
            scopes=options.scope or None,
            expires_in=None if options.expires is None else int(options.expires * 1000),
            limits=Limits(**dict(options.limit)),
        )
    )
    if options.json:
        print(encode(made).decode())
        return 0
    print(made.key)
    print(
        f"sandcove: key {made.id} of tenant {made.tenant} is not shown again; `sandcove keys revoke {made.id}` ends it",
        file=sys.stderr,
    )
    return 0


def _ls(options: Namespace) -> int:
    listing = client().keys()
    if options.json:
        print(encode(listing).decode())
        return 0
    rows = [
        [
            key.id,
            key.tenant,
            key.name,
            " ".join(key.scopes),
            f"revoked {key.revoked_at}" if key.revoked_at else key.expires_at or "never",
            key.last_used_at or "never",
        ]
        for key in listing.keys
    ]
    from sandcove.cli.draw import table

    table(["key", "tenant", "name", "scopes", "ends", "last used"], rows)
    return 0


def _revoke(options: Namespace) -> int:
    failed = 0
    for key_id in options.ids:
        try:
            print(client().revoke_key(key_id).id, flush=True)
        except NotFoundError as error:
            print("sandcove:", error.message, file=sys.stderr)
            failed = 1
    return failed
