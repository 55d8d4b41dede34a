"""Damage to files that knows their structure: JSON, safetensors, archives, directories, bytes."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 10**12, -(10**12), 10**30, 2**31, 2**63, 2**64, 0.5, -0.5,
    1e300, 1e-300, "", "a", "0", "-1", "nan", "float32", "int8", "float8_e4m3fn", "cuda", "meta",
    "../../etc/passwd", "/etc/passwd", "a\x00b", "a\nb", "é漢\u202e", "<script>alert(1)</script>",
    "javascript:alert(1)", "x" * 5000, "%s%n{0}", [], [[]], [0], [None], ["a", 1], {}, {"a": 1},
    {"kind": "zero"}, [[[[[[[]]]]]]], [1] * 1000, "__class__", "gpt2", "relu", "rotary",
]  # fmt: skip
TEXTS: list[bytes] = [
    b"", b"{", b"null", b"[]", b"{}", b"NaN", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000,
    b'{"a": 1, "a": 2}', b'{"a": 1e999}', b'{"a": -Infinity}', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00",
    b'{"a": "\\ud800"}', b'{"a": "\xed\xa0\x80"}', b"\x00" * 64, b'"' + b"a" * 100_000,
]  # fmt: skip

Files = dict[str, bytes]


def mutate_json(text: bytes, rng: random.Random) -> bytes:
    """A document with one to three of its values replaced, dropped, doubled or renamed."""
    if rng.random() < 0.06:
        return rng.choice(TEXTS)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return mutate_bytes(text, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        document = _edit(document, rng)
    written = json.dumps(document).encode()
    if rng.random() < 0.03:  # what `json.dumps` would not write
        written = written.replace(b": 1", b": 1" + b"0" * rng.choice((20, 400, 5000)), 1)
    if rng.random() < 0.03:
        written = written.replace(b"{", b'{"a": 1, "a": 2, ', 1)
    return written


def _edit(document: Any, rng: random.Random) -> Any:
    places = list(_places(document))
    if not places:
        return rng.choice(HOSTILE)
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind <= 3:
        holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    elif kind == 4:
        del holder[key]
    elif kind == 5 and isinstance(holder, dict):
        holder[rng.choice(["a", "", "../x", "x" * 300, key + "s", "é\x00"])] = holder[key]
    elif kind == 6:
        other, name = rng.choice(places)
        holder[key] = copy.deepcopy(other[name]) if name in _keys(other) else None
    else:
        value = holder[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            holder[key] = [value]
        else:
            holder[key] = rng.choice([-value, value + 1, value * 2, value * 10**9, str(value)])
    return document


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in list(_keys(value)):
            yield value, key
            yield from _places(value[key])


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits turned over, a part cut off, taken out, doubled, or made zero."""
    if not data:
        return rng.randbytes(20)
    found, kind = bytearray(data), rng.randrange(6)
    at, size = rng.randrange(len(data)), rng.randrange(1, 65)
    if kind <= 1:
        for _ in range(rng.choice((1, 1, 4, 32))):
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        return data[:at]
    elif kind == 3:
        del found[at : at + size]
    elif kind == 4:
        found[at:at] = found[at : at + size]
    else:
        found[at : at + size] = rng.choice((b"\x00", b"\xff")) * size
    return bytes(found)


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A file whose header says other things, or whose numbers are other ones."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    kind = rng.randrange(6)
    if kind <= 1:
        header = mutate_json(header, rng)
    elif kind == 2:
        return rng.choice((0, 1, 2**62, 10**8 + 1)).to_bytes(8, "little") + header + body
    elif kind == 3 and body:  # NaN and infinite in most dtypes
        at = rng.randrange(len(body)) // 4 * 4
        body = body[:at] + rng.choice((b"\xff\xff\xff\x7f", b"\x00\x00\x80\x7f")) + body[at + 4 :]
        body = body[: len(data) - 8 - length]
    elif kind == 4:
        body = mutate_bytes(body, rng)
    else:
        return mutate_bytes(data, rng)
    return len(header).to_bytes(8, "little") + header + body


def mutate_archive(data: bytes, rng: random.Random) -> bytes:
    """An archive written anew with an entry changed, packed, or claiming more than there is."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, ValueError, OSError):
        return mutate_bytes(data, rng)
    at, kind = rng.randrange(len(entries)), rng.randrange(5)
    name, content = entries[at]
    packed = zipfile.ZIP_STORED
    if kind == 0:
        content = mutate_bytes(content, rng)
    elif kind == 1:
        content, packed = b"\x00" * 30_000_000, zipfile.ZIP_DEFLATED
    elif kind == 2:
        name = rng.choice(("../../x", "/etc/passwd", "x" * 300, name + "2"))
    elif kind == 3:
        pickles = [i for i, (n, _) in enumerate(entries) if n.endswith(".pkl")]
        at = pickles[0] if pickles else at
        name, content = entries[at][0], mutate_bytes(entries[at][1], rng)
    entries[at] = name, content
    if kind == 4:
        del entries[at]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", packed) as archive:
        for entry, held in entries:
            archive.writestr(entry, held)
    return written.getvalue()


BY_SUFFIX: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": mutate_json,
    ".jsonl": mutate_json,
    ".safetensors": mutate_safetensors,
    ".bin": mutate_archive,
    ".pt": mutate_archive,
}


def mutate_files(files: Files, rng: random.Random) -> Files:
    """Files of which one or two are damaged."""
    found = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2))):
        name = rng.choice(sorted(found))
        change = BY_SUFFIX.get(Path(name).suffix, mutate_bytes)
        found[name] = (mutate_bytes if rng.random() < 0.2 else change)(found[name], rng)
    return found


def damage_folder(folder: Path, rng: random.Random) -> None:
    """Sometimes: a file goes, becomes a link, a circle, a directory, a pipe, or another file."""
    kind = rng.randrange(60)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if kind >= 6 or not files:
        return
    path = rng.choice(files)
    if kind == 5:
        os.replace(path, rng.choice(files))
        return
    path.unlink()
    if kind == 1:
        path.symlink_to("/etc/passwd")
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        os.mkfifo(path)
