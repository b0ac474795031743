"""The way out of sandboxes: a proxy in this process, on a port inside each room.

- `addresses`: where no sandbox is let to, whatever its name; `own`: which addresses are this machine's.
- `resolve`, `connect`: a name's addresses; a connection to the very address that was checked.
- `asked`, `socks`, `hello`: what a program asks for, by HTTP, SOCKS5, and in the first bytes of TLS. No I/O.
- `passage`: one connection of a program; `tunnel`: its bytes, both ways; `pace`: how many of them a second.
- `share`: how many descriptors connections have.
- `outlet`: the way out of one sandbox; `outlets`: those of all.
- `trail`: what was asked for, and the verdict.

What a sandbox may reach is a `sandcove.wire.egress.Policy`.
"""
