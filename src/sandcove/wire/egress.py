"""What a sandbox may reach: ``none``, ``public``, presets, and patterns of hosts. No I/O.

An *egress* is a list of words. Each is a preset (``python``), or a host with an optional port: ``pypi.org`` (ports 80
and 443), ``*.npmjs.org:443`` (what is below npmjs.org), ``mirror:8080``, ``[2001:db8::1]:*`` (every port), ``*:443``
(every host). ``none`` and ``public``, which is ``*:*``, stand alone, and so does ``unfiltered``: the machine's own
network besides, about which nobody decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from sandcove.errors import InvalidRequestError

__all__ = [
    "PRESETS",
    "PROXY_HOST",
    "PROXY_PORT",
    "UNFILTERED",
    "Policy",
    "canonical_host",
    "check_egress",
    "is_address",
    "parse_egress",
    "parse_hosts",
    "shown",
]

PROXY_HOST = "127.0.0.1"
PROXY_PORT = 61080
"""Where a sandbox's programs find the proxy: above the ports that the kernel gives out by itself."""

PRESETS: dict[str, tuple[str, ...]] = {
    "python": ("pypi.org:443", "files.pythonhosted.org:443"),
    "node": ("registry.npmjs.org:443", "registry.yarnpkg.com:443", "repo.yarnpkg.com:443", "nodejs.org:443"),
    "git": (
        "github.com:443",
        "codeload.github.com:443",
        "*.githubusercontent.com:443",
        "gitlab.com:443",
        "bitbucket.org:443",
    ),
    # Both archives are read by plain http; what is in them is signed.
    "debian": (
        "deb.debian.org",
        "security.debian.org",
        "archive.ubuntu.com",
        "security.ubuntu.com",
        "ports.ubuntu.com",
    ),
}
UNFILTERED = "unfiltered"
MAX_WORDS = 256
MAX_WORD = 300

_WEB = frozenset({80, 443})
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_WORD = re.compile(r"(\[[^\]]*\]|[^:\[\]]+)(?::(\*|[1-9][0-9]{0,4}))?")


class _Pattern(NamedTuple):
    """``host``: a name, an address, ``*.name``, or ``*``; ``ports``: None is every port."""

    host: str
    ports: frozenset[int] | None

    def has_host(self, host: str) -> bool:
        """`host` may be a pattern's too."""
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and host != self.host[1:]
        return self.host in ("*", host)

    def overlaps(self, other: _Pattern) -> bool:
        """Some connection is meant by both."""
        ports = self.ports is None or other.ports is None or bool(self.ports & other.ports)
        return ports and (self.has_host(other.host) or other.has_host(self.host))


class Policy:
    """An egress, parsed.

    Attributes:
        words: as they were given.
    """

    def __init__(self, words: Sequence[str], patterns: Sequence[_Pattern]) -> None:
        self.words = tuple(words)
        self._patterns = tuple(patterns)

    def allows(self, host: str, port: int) -> bool:
        """Whether a connection may be made; `host` is canonical, see `canonical_host`."""
        return any(
            (pattern.ports is None or port in pattern.ports) and pattern.has_host(host) for pattern in self._patterns
        )

    def names_port(self, port: int) -> bool:
        """It allows connections to this port of some host, not only as one of all ports."""
        return any(pattern.ports is not None and port in pattern.ports for pattern in self._patterns)

    def beyond(self, ceiling: Policy) -> list[str]:
        """What it allows that `ceiling` does not."""
        if self.unfiltered and not ceiling.unfiltered:
            return [UNFILTERED]
        return [_word(pattern) for pattern in self._patterns if not ceiling._covers(pattern)]

    def overlaps(self, other: Policy) -> bool:
        """Some connection is allowed by both."""
        return any(one.overlaps(two) for one in self._patterns for two in other._patterns)

    def _covers(self, other: _Pattern) -> bool:
        ports: Iterable[int | None] = (None,) if other.ports is None else other.ports
        return all(
            any(
                (pattern.ports is None or port in pattern.ports) and pattern.has_host(other.host)
                for pattern in self._patterns
            )
            for port in ports
        )

    @property
    def unfiltered(self) -> bool:
        """It is the machine's network, past the proxy."""
        return self.words == (UNFILTERED,)

    @property
    def any_host(self) -> bool:
        """Every host, on every port."""
        return self.words in (("public",), (UNFILTERED,))

    @property
    def value(self) -> str | list[str]:
        """As the wire and people have it."""
        if not self.words:
            return "none"
        return self.words[0] if self.any_host else list(self.words)

    def __str__(self) -> str:
        return self.words[0] if len(self.words) == 1 else ", ".join(self.words) or "none"


def parse_egress(value: str | Sequence[str]) -> Policy:
    """The policy of a word or a list of words.

    Raises:
        InvalidRequestError: one is not understood; it says which, and what it may be.
    """
    words = list(dict.fromkeys([value] if isinstance(value, str) else value))
    if len(words) > MAX_WORDS:
        raise InvalidRequestError(f"egress has {len(words)} words; give at most {MAX_WORDS}")
    if words in (["none"], []):
        return Policy((), ())
    if words in (["public"], [UNFILTERED]):
        return Policy(words, (_Pattern("*", None),))
    patterns = []
    for word in words:
        if word in ("none", "public", UNFILTERED):
            raise InvalidRequestError(f"egress {word!r} stands alone; give it, or a list of hosts and presets")
        patterns += [_pattern(each) for each in PRESETS.get(word, (word,))]
    return Policy(words, patterns)


def parse_hosts(words: Sequence[str], port: int) -> Policy:
    """The policy of some hosts alone; `port` is that of a host which names none.

    Raises:
        InvalidRequestError: one is not understood, is a preset, or means more than the hosts of one domain.
    """
    patterns = []
    for word in words:
        if word in ("none", "public", *PRESETS):
            raise InvalidRequestError(f"{word!r} is no host; name each, such as 'api.example.com'")
        patterns.append(_pattern(word, frozenset({port})))
        if patterns[-1].host == "*":
            raise InvalidRequestError(f"{word!r} means too many hosts; name each, such as 'api.example.com'")
    return Policy(words, patterns)


def check_egress(value: object) -> str | list[str] | None:
    """An egress as a user may give it, or None.

    Raises:
        InvalidRequestError: it is none.
    """
    if value is None:
        return None
    words: list[object] = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    for word in words:
        if not isinstance(word, str):
            raise InvalidRequestError(
                "egress is 'none', 'public', 'unfiltered', or a list of hosts and presets as str, "
                f"not {type(word).__name__}"
            )
    texts = [word for word in words if isinstance(word, str)]
    parse_egress(texts)
    return value if isinstance(value, str) else texts


def canonical_host(text: str) -> str:
    """A host as patterns are compared with: a name in lower case without a dot at its end, or an address.

    Raises:
        ValueError: it is no host, or an address in a form that programs read differently (``0x7f.1``, ``2130706433``).
    """
    # Before `lower`, which makes ASCII of some letters that are none.
    if not text.isascii():
        raise ValueError("it has a character that is not ASCII")
    text = text.lower()
    try:
        if text.startswith("[") and text.endswith("]"):
            address = IPv6Address(text[1:-1])
            if address.scope_id is not None:
                raise ValueError("it has a zone")
            return str(address)
        text = text.removesuffix(".")
        if not _NAME.fullmatch(text):
            raise ValueError("it is no host's name")
        return str(IPv4Address(text)) if _ENDS_IN_A_NUMBER.fullmatch(text) else text
    except AddressValueError:
        raise ValueError("it is no address in the usual form") from None


def is_address(host: str) -> bool:
    """Whether a canonical host is an address."""
    return ":" in host or host.replace(".", "").isdigit()


def shown(host: str, port: int | None) -> str:
    """A host and its port as URLs have them; without `port` the host alone."""
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def _pattern(word: str, usual: frozenset[int] = _WEB) -> _Pattern:
    """`usual`: the ports where it names none."""
    match = _WORD.fullmatch(word) if len(word) <= MAX_WORD else None
    port = 0 if match is None or match[2] in (None, "*") else int(match[2])
    if match is None or port > 65535:
        raise _wrong(word)
    host = match[1]
    below = host.startswith("*.")
    if host != "*":
        try:
            name = host[2:] if below else host
            host = canonical_host(name if name.isascii() else name.encode("idna").decode())
        except ValueError:
            raise _wrong(word) from None
        plain = "." not in host and ":" not in host
        if plain and (below or match[2] is None):
            # A name that is misspelt must not become a host of the operator's network.
            raise _wrong(word)
        if below:
            if is_address(host):
                raise _wrong(word)
            host = f"*.{host}"
    return _Pattern(host, None if match[2] == "*" else frozenset({port}) if port else usual)


def _word(pattern: _Pattern) -> str:
    if pattern.ports is None:
        return "public" if pattern.host == "*" else f"{shown(pattern.host, None)}:*"
    return shown(pattern.host, None if pattern.ports == _WEB else min(pattern.ports))


def _wrong(word: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"egress {word[:80]!r} is not understood; give a preset ({', '.join(PRESETS)}), or a host: 'pypi.org', "
        "'*.npmjs.org:443', 'example.com:*'; a name without a dot needs its port: 'localhost:8080'"
    )
