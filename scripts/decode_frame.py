#!/usr/bin/env python3
"""Decodes a Freight frame to readable lines; written from docs/WIRE_FORMAT.md alone.

usage: scripts/decode_frame.py [FILE]     hex text with `#` comments, or raw bytes; standard input without FILE
A malformed frame gives one line, `error: ` and the first thing wrong with it (frame_checks.py), and exit code 1.
"""
import sys
from contextlib import suppress
from io import BytesIO
from struct import iter_unpack

sys.dont_write_bytecode = True  # It would lie among the sources.
import frame_checks as check

HEADER = "magic version kind flags frame_bytes op_count session sequence acknowledged_up_to map_epoch request time"
KINDS = ("?,hello,hello reply,request,reply,refusal,stats,stats reply,wire limit,wire limit reply,move,move reply,"
         "challenge,proof,denial,inspect,inspect reply").split(",")
BODIES = {1: ("<BBHIQQ", "version_min version_max authentication_method frame_bytes_max capabilities reserved"),
          2: ("<BBHIQ16sII", "version reserved cpu frame_bytes_max capabilities incarnation frames_in_flight_max "
              "permissions"), 5: ("<H", "code"), 8: ("<I", "reply_bytes"), 14: ("<H", "code"),
          10: ("<B7s16sQQQ", "command reserved id epoch sequence argument"),
          11: ("<B7sQQQ", "status reserved epoch keys_left version_max"),
          15: ("<B3sIQ", "command reserved seconds offset"), 16: ("<B7sQ", "status reserved bytes_total")}
OPERATIONS = {1: ("get", "", ""), 2: ("put", "<I", "value"), 3: ("delete", "", ""), 5: ("add", "<q", "delta"),
              4: ("compare-and-swap", "<QI", "expected value"),  # `value` is the length of one
              6: ("edit", "<BBBBIQ", "condition content expiry reserved value time")}
STATUSES = ("?,value,done,counter,not found,version mismatch,not a number,counter overflow,out of memory,"
            "reply full,wrong node,unknown,edited,edited,value too long").split(",")
OUTCOMES = {1: "{}s", 3: "<q", 12: "<Q", 13: "<QI{}s"}  # by status, behind the version; `{}` is value_bytes
FACTS = ("done", "was there", "is there")
ENTRIES = {1: "version {0} {1}", 2: "gone", 3: "completions {2}", 4: "version {0} {1}, deadline {3}"}

def listed(values):
    return ", ".join(f"{name} {value.hex() if isinstance(value, bytes) else value}" for name, value in values.items())

def shown(data):
    """Bytes as text where they are plain, as hex where not, cut where long."""
    plain = all(32 <= byte < 127 and byte not in b'"\\' for byte in data)
    return (f'"{data[:64].decode()}"' if plain else data[:64].hex()) + (f"... ({len(data)} bytes)" if data[64:] else "")

def decode(frame):
    stream = BytesIO(frame)
    header = check.header(dict(zip(HEADER.split(), check.take(stream, "<4sBBHII6Q", "Truncated"))), len(frame))
    yield f"{KINDS[header['kind']]}: {listed(header)}"
    yield from {3: decode_request, 4: decode_reply}.get(header["kind"], decode_other)(stream, **header)

def decode_request(stream, op_count, flags, **_):
    first = check.indices(check.take(stream, f"<{op_count}H", "Truncated") if flags & 2 else ())
    descriptors, = check.take(stream, f"{4 * op_count}s", "Truncated")
    for index, descriptor in enumerate(iter_unpack("<BBH", descriptors)):
        code, flags, key_bytes = check.operation(descriptor)
        name, layout, names = OPERATIONS[code]
        operand = dict(zip(names.split(), check.take(stream, layout)))
        key, = check.take(stream, f"{key_bytes}s")
        value, = check.take(stream, f"{check.value_bytes(operand.get('value', 0))}s")
        if name == "edit":
            check.edit(flags, **operand)
        words = "".join(f" {word} {shown(value) if word == 'value' else number}" for word, number in operand.items())
        wanted = ", version wanted" * (flags & 1) + ", more wanted" * (flags >> 1)
        yield f"{index}{f' (first {first[index]})' if first else ''}: {name} {shown(key)}{words}{wanted}"
    check.end(stream)

def decode_reply(stream, op_count, frame_bytes, **_):
    descriptors, = check.take(stream, f"{8 * op_count}s", "Truncated")
    begin, stretches, edits = stream.tell(), [], []
    for index, (word, offset) in enumerate(iter_unpack("<II", descriptors)):
        status, versioned, value_bytes = check.outcome(word, is_inside=begin <= offset <= frame_bytes)
        stream.seek(offset)
        version = check.take(stream, "<Q" * versioned)
        found = check.take(stream, OUTCOMES.get(status, "").format(value_bytes))
        text = "".join(f" {shown(value) if status == 1 else value}" for value in found)
        if status in (12, 13):
            edit, now, *before = found if status == 13 else (*found, value_bytes)
            edits.append((version, edit & 255, now))
            facts = ", ".join(fact for bit, fact in enumerate(FACTS) if edit >> bit & 1) or "nothing"
            text = f" ({facts}) {now} bytes, deadline {edit >> 8}" + "".join(f", before {shown(it)}" for it in before)
        stretches.append((offset, stream.tell()))
        yield f"{index}: {STATUSES[status]}{text}" + "".join(f", version {number}" for number in version)
    check.outcomes(stretches, begin, frame_bytes, edits)

def decode_other(stream, kind, **_):
    layout, names = BODIES.get(kind, ("", ""))
    body = dict(zip(names.split(), check.take(stream, layout, "Truncated")))
    rest = check.behind(stream.read(), kind, body)
    if kind in (10, 11):
        yield listed(body)
        yield from [f"slots {rest.hex()}"] if body.get("command") in (1, 4) else decode_entries(BytesIO(rest))
    else:
        is_text = kind in (5, 7, 14) or body.get("status", 0) > 2
        yield f"{listed(body)}; {rest.decode() if is_text else shown(rest)}"

def decode_entries(stream):
    for index, head in enumerate(iter(lambda: stream.read(16), b"")):
        version, value_bytes, key_bytes, kind, _ = check.entry(head, index)
        key, value = check.take(stream, f"{key_bytes}s{value_bytes}s")
        deadline = check.deadline(*check.take(stream, "<Q")) if kind == 4 else 0
        yield f"{index}: {shown(key)} {ENTRIES[kind].format(version, shown(value), value.hex(), deadline)}"

def decoded(data):
    """The lines of a frame, in hex with comments or as it is; or the one line that says what is wrong with it."""
    with suppress(ValueError):  # Where it is no hex text it is the bytes themselves.
        data = bytes.fromhex(" ".join(line.split("#")[0] for line in data.decode().splitlines()))
    try:
        return list(decode(data))
    except ValueError as error:
        return [f"error: {'BadBody' if isinstance(error, UnicodeDecodeError) else error}"]

if __name__ == "__main__":
    lines = decoded(open(sys.argv[1], "rb").read() if sys.argv[1:] else sys.stdin.buffer.read())
    print("\n".join(lines))
    sys.exit(lines[0].startswith("error:"))
