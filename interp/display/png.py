"""Pictures of whole numbers from 0 to 255, small enough to stand inside a page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from jaxtyping import UInt8

from interp.charts.palette import channels


def png_url(levels: UInt8[np.ndarray, "row column"], color: str) -> str:
    """A picture as a `data:` URL: one colour, as opaque as each level says, from 0 to 255.

    So the page shows through where a level is 0, whatever its own colour. The levels can be read
    back exactly, as the picture's opacity. (PNG, ISO/IEC 15948: 8 bits a pixel into a palette of
    one colour, each entry with its opacity.)

    Args:
        levels: Of each pixel.
        color: As `#rrggbb`.
    """
    rows, columns = levels.shape
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)  # each begins with its filter: none
    lines[:, 1:] = levels
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(channels(color)) * 256),
            _chunk(b"tRNS", bytes(range(256))),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
