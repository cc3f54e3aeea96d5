#!/usr/bin/env python3
"""Decodes a Freight frame to readable lines; written from docs/WIRE_FORMAT.md alone.

usage: scripts/decode_frame.py [FILE]     hex text with `#` comments, or raw bytes; standard input without FILE
A malformed frame gives one line, `error: ` and the first thing wrong with it, and exit code 1.
"""
import sys
from struct import calcsize, unpack_from
from unicodedata import category

VALUE_BYTES_MAX, FRAME_OPS_MAX, FRAME_BYTES_MIN, FRAME_BYTES_MAX = 8 << 20, 65_536, 10 << 20, 1 << 30
KINDS = ("?,hello,hello reply,request,reply,refusal,stats,stats reply,wire limit,wire limit reply,move,"
         "move reply,challenge,proof,denial,inspect,inspect reply").split(",")
OPERATIONS = [("?", "", ""), ("get", "", ""), ("put", "<I", "value"), ("delete", "", ""),
              ("compare-and-swap", "<QI", "expected value"), ("add", "<q", "delta"),
              ("edit", "<BBBBIQ", "condition content expiry reserved value time")]
STATUSES = ("?,value,done,counter,not found,version mismatch,not a number,counter overflow,out of memory,"
            "reply full,wrong node,unknown,edited,edited,value too long").split(",")
FACTS = ("done", "was there", "is there")
HEADER = ("<4sBBHII6Q", "magic version kind flags frame_bytes op_count "
          "session sequence acknowledged_up_to map_epoch request time")
NO_BODY = ("", "")
BODIES = {
    1: ("<BBHIQQ", "version_min version_max authentication_method frame_bytes_max capabilities reserved"),
    2: ("<BBHIQ16sII", "version reserved cpu frame_bytes_max capabilities incarnation frames_in_flight_max "
        "permissions"),
    5: ("<H", "code"),
    8: ("<I", "reply_bytes"),
    10: ("<B7s16sQQQ", "command reserved id epoch sequence argument"),
    11: ("<B7sQQQ", "status reserved epoch keys_left version_max"),
    14: ("<H", "code"),
    15: ("<B3sIQ", "command reserved seconds offset"),
    16: ("<B7sQ", "status reserved bytes_total"),
}

def check(holds, error):
    if not holds:
        raise ValueError(error)

def fields(layout, frame, at):
    return dict(zip(layout[1].split(), unpack_from(layout[0], frame, at)))

def listed(values):
    return ", ".join(f"{name} {value.hex() if isinstance(value, bytes) else value}" for name, value in values.items())

def shown(data):
    """Bytes as text where they are plain, as hex where not, cut where long."""
    plain = all(32 <= byte < 127 and byte not in b'"\\' for byte in data)
    return (f'"{data[:64].decode()}"' if plain else data[:64].hex()) + (f"... ({len(data)} bytes)" if data[64:] else "")

def decode(frame):
    check(len(frame) >= 64, "Truncated")
    header = fields(HEADER, frame, 0)
    magic, version, kind, flags, frame_bytes, op_count, *_, time = header.values()
    check(magic == b"FRGT", "BadMagic")
    check(version == 1, "BadVersion")
    check(1 <= kind <= 16, "BadKind")
    check(64 <= frame_bytes <= FRAME_BYTES_MAX, "BadFrameBytes")
    check((time == 0 or kind == 4) and (flags == 0 or kind == 3 and flags in (1, 3)), "ReservedNotZero")
    check(op_count <= FRAME_OPS_MAX, "TooManyOps")
    check(op_count == 0 or kind in (3, 4), "ReservedNotZero")
    check(frame_bytes <= len(frame), "Truncated")
    check(frame_bytes == len(frame), "TrailingBytes")
    begin = 64 + op_count * (4 + (flags & 2) if kind == 3 else 8) + calcsize(BODIES.get(kind, NO_BODY)[0])
    check(begin <= len(frame), "Truncated")
    yield f"{KINDS[kind]}: {listed(header)}"
    decoders = {3: decode_request, 4: decode_reply, 10: decode_move, 11: decode_move, 15: decode_inspect,
                16: decode_inspect}
    yield from decoders.get(kind, decode_body)(frame, begin, flags if kind == 3 else kind)

def decode_request(frame, begin, marks):
    count = (begin - 64) // (4 + (marks & 2))
    first = unpack_from(f"<{count}H", frame, 64) if marks & 2 else ()
    check(all(one < other for one, other in zip(first, first[1:])), "BadIndex")
    at = begin
    for index in range(count):
        code, flags, key_bytes = unpack_from("<BBH", frame, begin + 4 * (index - count))
        check(1 <= code <= 6, "BadOpCode")
        check(flags <= (3 if code in (1, 6) else 1), "BadFlags")
        name, *layout = OPERATIONS[code]
        key = at + calcsize(layout[0])
        value = key + key_bytes
        check(value <= len(frame), "OutOfFrame")
        operand = fields(layout, frame, at)
        at = value + operand.get("value", 0)
        check(at - value <= VALUE_BYTES_MAX, "ValueTooLong")
        check(at <= len(frame), "OutOfFrame")
        check(code != 6 or edit_is_known(flags, **operand), "BadEdit")
        words = [f" {word} {shown(frame[value:at]) if word == 'value' else operand[word]}" for word in operand]
        place = f"{index} (first {first[index]})" if first else f"{index}"
        yield f"{place}: {name} {shown(frame[key:value])}{''.join(words)}" + wanted(flags)
    check(at == len(frame), "PayloadMismatch")

def wanted(flags):
    return "".join(f", {what} wanted" for bit, what in enumerate(("version", "more")) if flags >> bit & 1)

def edit_is_known(flags, condition, content, expiry, reserved, value, time):
    is_known = condition <= 7 and content <= 3 and expiry <= 3 and reserved == 0
    is_get = flags & 2 and condition == content == expiry == 0
    return is_known and not is_get and (value == 0 or content in (1, 2)) and (time == 0 or expiry >= 2)

def edited(frame, at, value_bytes, with_value):
    """An edit's outcome in words, and whether it says what it can say."""
    facts, deadline = frame[at], int.from_bytes(frame[at + 1:at + 8], "little")
    now = unpack_from("<I", frame, at + 8)[0] if with_value else value_bytes
    said = ", ".join(fact for bit, fact in enumerate(FACTS) if facts >> bit & 1) or "nothing"
    before = f", before {shown(frame[at + 12:at + 12 + value_bytes])}" if with_value else ""
    return f" ({said}) {now} bytes, deadline {deadline}{before}", facts < 8 and now <= VALUE_BYTES_MAX

def decode_reply(frame, begin, _):
    stretches, edits_are_known = [], True
    for index in range((begin - 64) // 8):
        word, offset = unpack_from("<II", frame, 64 + 8 * index)
        status, versioned, value_bytes = word & 0x7F, word >> 7 & 1, word >> 8
        check(1 <= status <= 14, "BadStatus")
        check(status != 3 or value_bytes == 8, "BadCounter")
        check(value_bytes <= (8 if status == 3 else VALUE_BYTES_MAX if status in (1, 12, 13) else 0), "ValueTooLong")
        check(status in (1, 2, 3, 12, 13) or versioned == (status == 5), "BadStatus")
        end = offset + 8 * versioned + {12: 8, 13: 12 + value_bytes}.get(status, value_bytes)
        check(begin <= offset and end <= len(frame), "OutOfFrame")
        stretches += [(offset, end)] if end > offset else []
        value = frame[end - value_bytes:end]
        text = f" {shown(value)}" if status == 1 else f" {unpack_from('<q', value)[0]}" if status == 3 else ""
        version = f", version {unpack_from('<Q', frame, offset)[0]}" if versioned else ""
        if status in (12, 13):
            text, is_known = edited(frame, offset + 8 * versioned, value_bytes, status == 13)
            edits_are_known &= is_known and version != ", version 0"
        yield f"{index}: {STATUSES[status]}{text}{version}"
    stretches.sort()
    check(sum(end - offset for offset, end in stretches) == len(frame) - begin, "PayloadMismatch")
    check(all(end <= offset for (_, end), (offset, _) in zip(stretches, stretches[1:])), "Overlap")
    check(edits_are_known, "BadEdit")

def decode_move(frame, begin, kind):
    body = fields(BODIES[kind], frame, 64)
    code = body.get("command", body.get("status"))
    check(1 <= code <= (8 if kind == 10 else 9), "BadBody")
    check(body["reserved"] == bytes(7), "ReservedNotZero")
    yield listed(body)
    rest, index = len(frame) - begin, 0
    if kind == 10 and code != 5:
        check(code != 6 or body["argument"] <= 1 << 63, "BadBody")
        check(rest == (2048 if code in (1, 4) else 0), "PayloadMismatch")
        yield from ([f"slots {frame[begin:].hex()}"] if rest else [])
        return
    while begin < len(frame):
        check(index < 4096, "TooManyOps")
        check(begin + 16 <= len(frame), "OutOfFrame")
        version, value_bytes, key_bytes, entry, reserved = unpack_from("<QIHBB", frame, begin)
        check(1 <= entry <= (2 if key_bytes else 3) and reserved == 0 and (entry == 1) <= version, "BadBody")
        check(version <= (1 << 63 if entry == 1 else 0), "BadBody")
        check(value_bytes <= (0, VALUE_BYTES_MAX, 0, VALUE_BYTES_MAX + 64)[entry], "ValueTooLong")
        key, value, begin = begin + 16, begin + 16 + key_bytes, begin + 16 + key_bytes + value_bytes
        check(begin <= len(frame), "OutOfFrame")
        record = [f"version {version} {shown(frame[value:begin])}", "gone", f"completions {frame[value:begin].hex()}"]
        yield f"{index}: {shown(frame[key:value])} {record[entry - 1]}"
        index += 1

def decode_inspect(frame, begin, kind):
    body = fields(BODIES[kind], frame, 64)
    check(not any(body["reserved"]), "ReservedNotZero")
    code = body.get("command", body.get("status"))
    if kind == 15:
        check(1 <= code <= 3 and (1 <= body["seconds"] <= 60 if code == 2 else body["seconds"] == 0), "BadBody")
        check(body["offset"] <= (16 << 20 if code == 3 else 0), "BadBody")
    else:
        check(body["bytes_total"] <= (16 << 20 if code == 1 else 0) and 1 <= code <= 6, "BadBody")
        check(code > 2 or len(frame) - begin <= body["bytes_total"], "BadBody")
    is_line = kind == 16 and code > 2
    text = frame[begin:].decode() if is_line else shown(frame[begin:])
    check(not is_line or all(category(char) != "Cc" for char in text), "BadBody")
    yield f"{listed(body)}; {text}"

def decode_body(frame, begin, kind):
    body = fields(BODIES.get(kind, NO_BODY), frame, 64)
    check(body.get("reserved", 0) == 0, "ReservedNotZero")
    check(body.get("version", 1) == 1, "BadVersion")
    check(kind != 1 or body["version_min"] <= body["version_max"], "BadBody")
    check(body.get("frames_in_flight_max", 1) > 0, "BadBody")
    check(FRAME_BYTES_MIN <= body.get("frame_bytes_max", FRAME_BYTES_MIN) <= FRAME_BYTES_MAX, "BadFrameLimit")
    check(1 <= body.get("code", 1) <= 7, "BadBody")
    check(64 <= body.get("reply_bytes", 64) <= FRAME_BYTES_MAX, "BadFrameBytes")
    text = frame[begin:].decode() if kind in (5, 7, 14) else shown(frame[begin:])
    check(kind not in (5, 14) or all(category(char) != "Cc" for char in text), "BadBody")
    yield f"{listed(body)}; {text}"

def decoded(data):
    """The lines of a frame, in hex with comments or as it is; or the one line that says what is wrong with it."""
    try:
        data = bytes.fromhex(" ".join(line.split("#")[0] for line in data.decode().splitlines()))
    except ValueError:
        pass  # No hex text: the bytes themselves.
    try:
        return list(decode(data))
    except ValueError as error:
        return [f"error: {'BadBody' if isinstance(error, UnicodeDecodeError) else error}"]

if __name__ == "__main__":
    out = decoded(open(sys.argv[1], "rb").read() if sys.argv[1:] else sys.stdin.buffer.read())
    print("\n".join(out))
    sys.exit(out[0].startswith("error:"))
