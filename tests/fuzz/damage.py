"""Ways to damage a file: a list made by hand, and seeded mutations of bytes, JSON, YAML and safetensors headers."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

Damage = Callable[[Path], None]
"""changes one file in place"""

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**30, 10**400, 1e308, float("inf"), float("nan"), "", " ", "x", "nan", "../../x",
    "/etc", "<script>alert(1)</script>", "=1+1", "\\input{x}", "\ud83d", "a\nb", "\0", "\u2028", "x" * 10_000, [], [[]],
    ["x"], [None], {}, {"x": {}}, {"": None}, [0] * 1000,
)  # fmt: skip
"""values put in the place of others"""


def whole(data: bytes | str) -> Damage:
    return lambda path: replaced(path, data.encode() if isinstance(data, str) else data)


def replaced(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: replaced(path, change(path.read_bytes()))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def recoded(data: bytes) -> bytes:
    return data.decode("utf-8", errors="replace").encode("utf-16")


HAND: dict[str, Damage] = {
    "removed": Path.unlink,
    "empty": whole(b""),
    "a folder": folder,
    "a link to itself": loop,
    "a link to nothing": dangling,
    "cut in half": changed(lambda data: data[: len(data) // 2]),
    "last byte gone": changed(lambda data: data[:-1]),
    "first byte gone": changed(lambda data: data[1:]),
    "all but 8 bytes gone": changed(lambda data: data[:8]),
    "twice": changed(lambda data: data + data),
    "backwards": changed(lambda data: data[::-1]),
    "every bit flipped": changed(lambda data: bytes(byte ^ 255 for byte in data)),
    "zeros": changed(lambda data: bytes(len(data))),
    "zeros at the end": changed(lambda data: data + bytes(100)),
    "white space": whole(b" \n\r\n\t \n"),
    "a byte order mark alone": whole(b"\xef\xbb\xbf"),
    "UTF-16": changed(recoded),
    "a latin-1 byte": changed(lambda data: data + b"caf\xe9\n"),
    "a torn character": changed(lambda data: data[: len(data) // 2] + b"\xc3" + data[len(data) // 2 :]),
    "NUL characters": changed(lambda data: data.replace(b"e", b"\0", 3)),
    "a line of 5 MB": changed(lambda data: b"x" * 5_000_000 + b"\n" + data),
    "5 MB at the end": changed(lambda data: data + b"x" * 5_000_000),
    "brackets, 100,000 deep": whole("[" * 100_000 + "]" * 100_000),
    "braces, 20,000 deep": whole('{"a":' * 20_000 + "1" + "}" * 20_000),
    "an aliased YAML bomb": whole("a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*b{i - 1}, *b{i - 1}]\n" if i else
                                  "b0: &b0 [*a, *a]\n" for i in range(24))),
    "a YAML object": whole("!!python/object/apply:os.system ['touch pwned']\n"),
    "YAML tabs": whole("a:\n\t- b: [\n"),
    "null": whole("null\n"),
    "an empty object": whole("{}\n"),
    "an empty list": whole("[]\n"),
    "a text": whole('"x"\n'),
    "a number": whole("7\n"),
    "NaN": whole("NaN\n"),
    "a number of 5,000 digits": whole("9" * 5000 + "\n"),
    "half a surrogate": whole('{"state": "\\ud83d", "question": "\\ud83d"}\n'),
    "HTML": whole("<!DOCTYPE html><html><body>404</body></html>\n"),
    "a git-lfs pointer": whole("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"),
    "gzip": changed(lambda data: gzip.compress(data, mtime=0)),
    "a gzip bomb of 50 MB": whole(gzip.compress(bytes(50_000_000), 9, mtime=0)),
    "a pickle": whole(b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."),
    "a safetensors header of 2^60 bytes": whole((2**60).to_bytes(8, "little") + b"{}"),
    "a safetensors file without tensors": whole((2).to_bytes(8, "little") + b"{}"),
    "a safetensors header that is a list": whole((2).to_bytes(8, "little") + b"[]"),
}  # fmt: skip


def mutated(path: Path, random: Random) -> str:
    """Damage a file in a way drawn at random, fitting its kind more often than not; what was done."""
    ways = {".json": structure, ".yaml": structure, ".jsonl": one_line, ".safetensors": header}
    way = ways.get(path.suffix)
    if way is not None and random.random() < 0.75:
        try:
            return way(path, random)
        except (ValueError, OSError, yaml.YAMLError, RecursionError):
            pass
    return octets(path, random)


def octets(path: Path, random: Random) -> str:
    """Flip bits, cut, insert, repeat or move octets."""
    data = bytearray(path.read_bytes())
    done = []
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        way = random.choice(("flip", "flip", "cut", "insert", "drop", "repeat", "number"))
        done.append(f"{way} at {at}")
        if way == "flip" and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif way == "cut":
            del data[at:]
        elif way == "insert":
            data[at:at] = random.randbytes(random.choice((1, 4, 100)))
        elif way == "drop":
            del data[at : at + random.choice((1, 8, 200))]
        elif way == "repeat":
            data[at:at] = data[max(0, at - 50) : at]
        elif way == "number":
            data[at : at + 1] = random.choice((b"-1", b"1e999", b"NaN", b'"', b"\n", b"\t", b"\0", b"\xff", b"{", b"]"))
    path.write_bytes(bytes(data))
    return ", ".join(done)


def structure(path: Path, random: Random) -> str:
    """Change places of a JSON or YAML document."""
    text = path.read_text(encoding="utf-8")
    document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    document, done = changed_document(document, random)
    if path.suffix == ".json":
        path.write_text(json.dumps(document), encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(document, allow_unicode=False), encoding="utf-8")
    return done


def one_line(path: Path, random: Random) -> str:
    """Change one line of JSON lines."""
    lines = path.read_text(encoding="utf-8").split("\n")
    index = random.randrange(max(1, len(lines) - 1))
    document, done = changed_document(json.loads(lines[index]), random)
    lines[index] = json.dumps(document)
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"line {index + 1}: {done}"


def header(path: Path, random: Random) -> str:
    """Change the JSON header of a safetensors file, its length put right: names, dtypes, shapes, offsets, metadata."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    document, done = changed_document(json.loads(data[8 : 8 + length]), random)
    text = json.dumps(document).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return f"header: {done}"


def changed_document(document: Any, random: Random) -> tuple[Any, str]:
    """The document with one to three places changed: a key gone or renamed, a value of another type, nesting."""
    document, done = {"": copy.deepcopy(document)}, []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        parent, key, name = random.choice(places(document))
        way = random.choice(("gone", "renamed", "odd", "odd", "odd", "listed", "deep", "near"))
        done.append(f"{name or 'all'} {way}")
        if way == "gone" and name:
            del parent[key]
        elif way == "renamed" and isinstance(parent, dict) and name:
            parent[f"{key}x"] = parent.pop(key)
        elif way == "listed":
            parent[key] = [parent[key]]
        elif way == "deep":
            for _ in range(200):
                parent[key] = {"a": parent[key]}
        elif way == "near" and isinstance(parent[key], int | float) and abs(parent[key]) < 1e300:
            parent[key] = random.choice((parent[key] + 1, -parent[key], str(parent[key]), parent[key] + 0.5))
        else:
            parent[key] = copy.deepcopy(random.choice(ODD))
    return document[""], "; ".join(done)


def places(node: Any, name: str = "") -> list[tuple[Any, Any, str]]:
    """Every (container, key, dotted name) of a document."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    found = []
    for key, value in items[:200]:
        inner = f"{name}.{key}".lstrip(".")[:80]
        found.append((node, key, inner))
        found += places(value, inner) if len(inner) < 60 else []
    return found
