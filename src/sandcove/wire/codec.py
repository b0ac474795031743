"""JSON in and out by msgspec, with errors that name the field and what to do."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from sandcove.errors import InvalidRequestError

__all__ = ["decode", "decode_json", "encode"]

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

encode = _encoder.encode


def decode(body: bytes | bytearray | memoryview, type: type[T]) -> T:
    """Decodes a JSON body as `type`.

    Raises:
        InvalidRequestError: it is no JSON, or a field is missing, unknown or of another type.
    """
    decoder = _decoders.get(type)
    if decoder is None:
        decoder = _decoders[type] = msgspec.json.Decoder(type)
    try:
        return decoder.decode(body)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the request body does not fit {type.__name__}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the request body is no valid JSON: {error}") from None


def decode_json(body: bytes) -> Any:
    """Decodes any JSON; raises `InvalidRequestError` when it is none."""
    return decode(body, object)
