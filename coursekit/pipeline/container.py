"""The smallest container that is still an honest one: named parts, a checksum, and nothing believed unchecked.

All numbers little-endian: magic "BOX1" | crc32 of all that follows, u32 | number of parts, u16 |
for each part: bytes of its name, u8; the name, UTF-8; bytes of the part, u32 | the parts, one behind the other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["pack_container", "unpack_container"]

MAGIC = b"BOX1"


def pack_container(parts: Mapping[str, Tensor]) -> Tensor:
    """The bytes, uint8, of a container that holds these parts.

    Args:    parts: name, at most 255 bytes in UTF-8, to uint8 tensor of one dimension.
    Raises:  ValueError if a part is no such tensor or a name is too long.
    Source:  Taught in lesson 15.
    """
    table, blobs = [struct.pack("<H", len(parts))], []
    for name, part in parts.items():
        text = name.encode()
        if part.dtype != torch.uint8 or part.dim() != 1 or len(text) > 255:
            raise ValueError(
                f"{name!r}: a part is uint8 of one dimension, and its name has at most 255 bytes"
            )
        table.append(struct.pack("<B", len(text)) + text + struct.pack("<I", len(part)))
        blobs.append(part.numpy().tobytes())
    body = b"".join(table + blobs)
    return torch.frombuffer(bytearray(MAGIC + struct.pack("<I", zlib.crc32(body)) + body), dtype=torch.uint8)


def unpack_container(data: Tensor) -> dict[str, Tensor]:
    """The parts of a container, in their order.

    Args:    data: uint8, one dimension: the bytes of a file.
    Returns: name to uint8 tensor of one dimension.
    Raises:  ValueError if the magic is another, the checksum does not fit, or the sizes do not add up.
    Source:  Taught in lesson 15.
    """
    raw = data.numpy().tobytes()
    if raw[:4] != MAGIC or len(raw) < 10:
        raise ValueError("these bytes are no container, or cut off")
    (checksum, n_parts), body = struct.unpack_from("<IH", raw, 4), raw[8:]
    if zlib.crc32(body) != checksum:
        raise ValueError("the container is damaged: its checksum does not fit")
    sizes, at = {}, 10
    try:
        for _ in range(n_parts):
            name = raw[at + 1 : at + 1 + raw[at]].decode()
            at += 1 + raw[at]
            (sizes[name],) = struct.unpack_from("<I", raw, at)
            at += 4
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("the container's table is cut off") from error
    if at + sum(sizes.values()) != len(raw) or len(sizes) != n_parts:
        raise ValueError("the sizes of the parts do not add up to the container's")
    parts = {}
    for name, size in sizes.items():
        parts[name] = data[at : at + size].clone()
        at += size
    return parts
