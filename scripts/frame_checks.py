"""What is wrong with a frame, for decode_frame.py: "What is checked" of docs/WIRE_FORMAT.md, in its order.

A function that finds nothing wrong gives back what it looked at.
"""
from io import BytesIO
from struct import calcsize, unpack
from unicodedata import category

VALUE_MAX, FRAME_MIN, FRAME_MAX, PROFILE_MAX, VERSION_MAX = 8 << 20, 10 << 20, 1 << 30, 1 << 24, 1 << 63
FIRSTS = {  # what the first field of a body may be, by kind
    2: (1,), 5: range(1, 8), 8: range(64, FRAME_MAX + 1), 10: range(1, 9), 11: range(1, 10), 14: range(1, 8),
    15: range(1, 4), 16: range(1, 7)}
OTHERS = {  # what others may be, by the first, and else 0
    "seconds": {2: range(1, 61)}, "offset": {3: range(PROFILE_MAX + 1)}, "bytes_total": {1: range(PROFILE_MAX + 1)}}

def check(**facts):
    """Raises the first error whose fact does not hold."""
    for error, holds in facts.items():
        if not holds:
            raise ValueError(error)

def take(stream, layout, error="OutOfFrame"):
    """The next values of a frame."""
    data = stream.read(calcsize(layout))
    check(**{error: len(data) == calcsize(layout)})
    return unpack(layout, data)

def header(fields, bytes_there):
    magic, version, kind, flags, frame_bytes, op_count, *_, time = fields.values()
    check(BadMagic=magic == b"FRGT", BadVersion=version == 1, BadKind=1 <= kind <= 16)
    check(BadFrameBytes=64 <= frame_bytes <= FRAME_MAX)
    check(ReservedNotZero=flags in ((0, 1, 3) if kind == 3 else (0,)) and (time == 0 or kind == 4))
    check(TooManyOps=op_count <= 65_536, ReservedNotZero=op_count == 0 or kind in (3, 4))
    check(Truncated=frame_bytes <= bytes_there, TrailingBytes=frame_bytes == bytes_there)
    return fields

def indices(first):
    check(BadIndex=list(first) == sorted(set(first)))
    return first

def operation(descriptor):
    code, flags, _ = descriptor
    check(BadOpCode=1 <= code <= 6, BadFlags=flags <= (3 if code in (1, 6) else 1))
    return descriptor

def value_bytes(count):
    check(ValueTooLong=count <= VALUE_MAX)
    return count

def edit(flags, condition, content, expiry, reserved, value, time):
    check(BadEdit=condition <= 7 and content <= 3 and expiry <= 3 and reserved == 0)
    check(BadEdit=(value == 0 or content in (1, 2)) and (time == 0 or expiry in (2, 3)))
    check(BadEdit=flags < 2 or condition or content or expiry)  # Else it is a get.

def end(stream):
    check(PayloadMismatch=not stream.read())

def outcome(word, is_inside):
    """The status, 1 or 0 for a version, and `value_bytes`."""
    status, versioned, length = word & 127, word >> 7 & 1, word >> 8
    check(BadStatus=1 <= status <= 14, BadCounter=status != 3 or length == 8)
    check(ValueTooLong=length <= (8 if status == 3 else VALUE_MAX if status in (1, 12, 13) else 0))
    check(BadStatus=status in (1, 2, 3, 12, 13) or versioned == (status == 5), OutOfFrame=is_inside)
    return status, versioned, length

def outcomes(stretches, begin, end, edits):
    """Whether the bytes of outcomes fill the payload, each once; then version, facts and length now of edits."""
    stretches = sorted((first, last) for first, last in stretches if first < last)
    check(PayloadMismatch=sum(last - first for first, last in stretches) == end - begin)
    check(Overlap=all(last <= first for (_, last), (first, _) in zip(stretches, stretches[1:])))
    check(BadEdit=all(version != (0,) and facts < 8 and now <= VALUE_MAX for version, facts, now in edits))

def behind(rest, kind, body):
    """Of a body, and of the bytes behind it."""
    first, get = next(iter(body.values()), 0), body.get
    is_known = first in FIRSTS.get(kind, (first,))
    check(BadBody=is_known or kind not in (10, 11), ReservedNotZero=get("reserved", 0) in (0, bytes(3), bytes(7)))
    check(**{{2: "BadVersion", 8: "BadFrameBytes"}.get(kind, "BadBody"): is_known})
    check(BadBody=kind != 1 or first <= body["version_max"])
    check(BadBody=get("frames_in_flight_max", 1) > 0)
    check(BadFrameLimit=FRAME_MIN <= get("frame_bytes_max", FRAME_MIN) <= FRAME_MAX)
    check(BadBody=all(body[name] in OTHERS[name].get(first, (0,)) for name in OTHERS.keys() & body))
    check(BadBody=first != 6 or get("argument", 0) <= VERSION_MAX)
    check(PayloadMismatch=kind != 10 or first == 5 or len(rest) == (2048 if first in (1, 4) else 0))
    check(BadBody=kind != 16 or first > 2 or len(rest) <= body["bytes_total"])
    if kind in (5, 14) or kind == 16 and first > 2:
        check(BadBody=all(category(char) != "Cc" for char in rest.decode()))
    return rest

def entry(head, index):
    check(TooManyOps=index < 4096)
    fields = version, length, key_bytes, kind, reserved = take(BytesIO(head), "<QIHBB")
    check(BadBody=1 <= kind <= 4 and reserved == 0 and (kind != 3 or key_bytes == 0))
    check(BadBody=version in (range(1, VERSION_MAX + 1) if kind in (1, 4) else (0,)))
    check(ValueTooLong=length <= {2: 0, 3: VALUE_MAX + 64}.get(kind, VALUE_MAX))
    return fields

def deadline(instant):
    check(BadBody=instant < 1 << 56)
    return instant
