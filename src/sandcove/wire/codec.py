"""JSON in and out by msgspec, with errors that name the field and what to do."""

from __future__ import annotations

import os
import threading
from typing import Any, TypeVar

import msgspec

from sandcove.errors import InvalidRequestError

__all__ = ["NOT_JSON", "decode", "decoder_of", "encode"]

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises: for what is no JSON, of another form, or nested thousands of times."""

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)

encode = _encoder.encode


def decoder_of(type: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of a type.

    It is made by one thread at a time: two that have msgspec 0.22 look at the same struct for the first time at once
    end the process with a segmentation fault.
    """
    found = _decoders.get(type)
    if found is None:
        with _making:
            found = _decoders[type] = msgspec.json.Decoder(type)
    return found


def decode(body: bytes | bytearray | memoryview, type: type[T]) -> T:
    """Decodes a JSON body as `type`.

    Raises:
        InvalidRequestError: it is no JSON, or a field is missing, unknown or of another type.
    """
    try:
        return decoder_of(type).decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the request body does not fit {type.__name__}: {error}") from None
    except NOT_JSON as error:
        raise InvalidRequestError(f"the request body is no valid JSON: {error}") from None
