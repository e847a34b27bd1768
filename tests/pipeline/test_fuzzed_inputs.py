"""Every reader reads a file or refuses it: inputs that `benchmarks/fuzz.py` has found, and worse.

The fuzzer kept them because each reaches another part of a reader.
"""

import struct
import zlib
from pathlib import Path

import pytest

from tests.helpers.cards import SOURCES
from tests.helpers.readers import READERS, REFUSALS

pytestmark = pytest.mark.usefixtures("valid_default")
YAML = [
    *(b'"', b"]", b"?", b"-", b"|-", b"<<", b"!r", b"!<", b"{d", b"&|", b"|0", b"? -", b'"\\'),
    *(b"!{!", b"|\n=", b"!!%", b"-\xe4 ", b"{? ", b"?\r-", b"| 5", b"0b1", b"\x0cTq&", b"&m\n*"),
    *(b"!<!!", b".nan", b"?\r?\r?", b"*m\n*a", b"[[[[i", b"&Tnr?", b"?\r-\nz ", b"!s!!Tr", b"\xac"),
    *(b"\n|6+|+", b"---\n---", b"!!%a0iz:", b"# T\n ` ds-", b"true\n\n---are:    ", b'[\n"\\U!b'),
    *(b".nai:\n []&t\xe2\x80\xa8.", b":\n' :~var", b"%YAML 9.9\n---", b"- - - - - --z---\n- -"),
    *(
        b'"\\UFFFFFFFF"',
        b'"\\uD800"',
        b"2001-01-01",
        b"&a [*a]",
        b"? ? ? ",
        b"a: 0x" + b"f" * 5_000,
    ),
    b"{" * 5_000,
    b"- " * 5_000,
]
HEADER = (
    b'{"__metadata__": {"about": %s}, '
    b'"x": {"dtype": "U8", "shape": [%s], "data_offsets": [0, %s]}}\n'
)
TENSORS = [
    *(b"", b"i", b"04", b"\xfe\xff", b"{}", b"{}\n=", b"[]", b"null", b"[" * 5_000),
    *(
        HEADER % (about, b"1", b"1") + b"\0"
        for about in (
            *(b'"{\\"sha256\\": \\"right\\"}"', b'"{\\"sha256\\": 1}"', b'"{}"', b'"[]"', b'"1 {"'),
            *(b'""', b"1", b'"{\\"model\\": Infinity}"', b'"\x7f"', b'"' + b"[" * 5_000 + b'"'),
            *(
                b'"{\\"model\\": \\"mlp\\", \\"width\\": \\"%d\\"}"' % n
                for n in (-1, 0, 1, 512, 10**9)
            ),
            *(
                b'"{\\"model\\": \\"linear\\", \\"width\\": %s}"' % n
                for n in (b'\\"0\\"', b"0", b'\\"\\"')
            ),
        )
    ),
    *(
        HEADER % (b'"{}"', shape, b"1") + b"\0"
        for shape in (b"-1", b"1.5", b"0", b"2", b"9" * 20, b"")
    ),
    *(HEADER % (b'"{}"', b"1", end) + b"\0" for end in (b"-1", b"0", b"2", b"9" * 20, b"null")),
]


def png(width: int, height: int, form: bytes, exif: bytes | None = None) -> bytes:
    """Return a PNG of four black bytes; form: its depth and its kind of colour."""
    orientation = b"\x12\1\3\0\1\0\0\0\6\0\0\0"
    chunks = {b"IHDR": struct.pack(">II", width, height) + form + b"\0\0\0"}
    if exif is not None:  # a second entry
        chunks[b"eXIf"] = b"II*\0\x08\0\0\0\2\0" + orientation + exif + b"\0" * 12
    chunks |= {b"IDAT": zlib.compress(b"\0" * 4), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + b"crc "  # which the reader's helper replaces
        for kind, data in chunks.items()
    )


PICTURES = [
    *(b"", b"f", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8" * 500),
    b"\xff\xd8\xff\xe0\x00\x00\xff\xe0\x00\r",
    *(png(1, 1, b"\x08\0"), png(0, 1, b"\x08\0"), png(2**32 - 1, 1, b"\x08\0")),
    *(png(16, 4_456_468, b"\x10\0"), png(16, 23_828, b"\1\0")),
    *(png(2, 2, form) for form in (b"\x08\3", b"\7\7", b"\x08\1", b"\0\0")),
    *(
        png(1, 2, b"\x08\0", entry)
        for entry in (
            b"\x17\1\5\0\1\0\0\0\x08\0\0\0",
            b"\x3b\1\x0b\0\1\0\0\0\x08\0\0\0",
            b"\x4a\1\6\0\1\0\0\0\xff\xff\xff\xff",
            b"\x69\x87\x10\0\1\0\0\0\x08\0\0\0",
        )
    ),
]
COLUMNS = b"split,example,label,accuracy.0,accuracy.1,cross_entropy.0,cross_entropy.1"
SCORES = [
    *(
        b"",
        b"\n",
        b"q",
        b"\x99",
        b"d,\n\x9b",
        b'"',
        b"s,t,label,p,el,",
        COLUMNS,
        COLUMNS + b"\nval",
    ),
    *(
        COLUMNS + b"\nval,a,3,%s,0,1,2" % number
        for number in (b"nan", b"inf", b"x", b"1e400", b"", b"9" * 5_000, b'"', b"\0")
    ),
    COLUMNS + b"\nval,a,3,1,0,1,2\nval,a,3,1,0,1,2",
    COLUMNS + b"\nval,a,3,1,0,1",
    COLUMNS + b",accuracy.2,cross_entropy.2\nval,a,3,1,0,1,2,1,1",
    COLUMNS + b",accuracy.0\nval,a,3,1,0,1,2,1",
    COLUMNS + b",split,split\nval,a,3,1,0,1,2,\0,\0",
]
LINES = [  # of JSON
    b"[" * 5_000,
    b"[" * 5_000 + b"\n",
    b"null\n",
    b"[]\n",
    b'{"a": 0}\n',
    b'{"key": NaN, "seconds": 1e400}\n',
    b"\xff\n",
    b'{"a": true}\n{"a": 1}\n',
]
INPUTS = {
    "yaml": YAML,
    "params": YAML,
    "split": TENSORS,
    "checkpoint": TENSORS,
    "picture": PICTURES,
    "scores": SCORES,
    "points": LINES,
    "chosen": LINES,
}


@pytest.mark.parametrize("name", READERS)
def test_a_fuzzed_input_is_read_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sources").symlink_to(SOURCES)
    read, seeds, _ = READERS[name]
    for content in seeds():
        read(content)
    refused = 0
    for content in INPUTS[name]:
        try:
            read(content)
        except REFUSALS:
            refused += 1
    assert refused > len(INPUTS[name]) / 2
