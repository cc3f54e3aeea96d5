#!/usr/bin/env python3
"""Decodes a Freight frame to readable lines; written from docs/WIRE_FORMAT.md alone.

usage: scripts/decode_frame.py [FILE]     hex text with `#` comments, or raw bytes; standard input without FILE
A malformed frame gives one line, `error: Name ...`, and exit code 1.
"""
import sys
import unicodedata
from struct import unpack_from

VALUE_BYTES_MAX, FRAME_OPS_MAX, FRAME_BYTES_MIN, FRAME_BYTES_MAX = 8 << 20, 65_536, 10 << 20, 1 << 30
KINDS = "?,hello,hello reply,request,reply,refusal,stats,stats reply,wire limit,wire limit reply".split(",")
OPS = "?,get,put,delete,compare-and-swap,add".split(",")
STATUSES = ("?,value,done,counter,not found,version mismatch,not a number,counter overflow,out of memory,"
            "reply full").split(",")
REFUSALS = "?,version,connections,unauthorized,malformed,draining,forbidden,memory".split(",")


class WireError(Exception):
    """The first thing wrong with a frame."""


def check(holds, name, text):
    if not holds:
        raise WireError(f"{name} {text}")


def shown(data):
    """Bytes as text where they are plain, as hex where not, cut where long."""
    plain = all(32 <= byte < 127 and byte not in b'"\\' for byte in data)
    text = f'"{data[:64].decode()}"' if plain else data[:64].hex()
    return text if len(data) <= 64 else f"{text}... ({len(data)} bytes)"


def utf8(data, what):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise WireError(f"BadBody {what}") from None


def decode(frame):
    """Yields the lines of a frame."""
    check(len(frame) >= 64, "Truncated", f"64 bytes needed, {len(frame)} there")
    magic, version, kind, flags, frame_bytes, op_count = unpack_from("<4sBBHII", frame)
    session, sequence, acknowledged, epoch, request, reserved = unpack_from("<6Q", frame, 16)
    check(magic == b"FRGT", "BadMagic", magic.hex())
    check(version == 1, "BadVersion", version)
    check(1 <= kind <= 9, "BadKind", kind)
    check(64 <= frame_bytes <= FRAME_BYTES_MAX, "BadFrameBytes", frame_bytes)
    check(flags == 0, "ReservedNotZero", "at byte 6")
    check(reserved == 0, "ReservedNotZero", "at byte 56")
    check(op_count <= FRAME_OPS_MAX, "TooManyOps", op_count)
    check(op_count == 0 or kind in (3, 4), "ReservedNotZero", "at byte 12")
    check(frame_bytes <= len(frame), "Truncated", f"{frame_bytes} bytes needed, {len(frame)} there")
    check(frame_bytes == len(frame), "TrailingBytes", f"frame of {frame_bytes} bytes in {len(frame)}")
    needed = {1: 24, 2: 40, 3: 4 * op_count, 4: 8 * op_count, 5: 2, 8: 4}.get(kind, 0)
    check(frame_bytes - 64 >= needed, "Truncated", f"{needed} bytes needed, {frame_bytes - 64} there")
    yield f"{KINDS[kind]}, version {version}, {frame_bytes} bytes, {op_count} operations, request {request}"
    yield f"session {session}, sequence {sequence}, acknowledged up to {acknowledged}, map epoch {epoch}"
    yield from {3: decode_request, 4: decode_reply}.get(kind, decode_service)(frame, kind, op_count)


def decode_request(frame, _, op_count):
    at = 64 + 4 * op_count
    for index in range(op_count):
        code, flags, key_bytes = unpack_from("<BBH", frame, 64 + 4 * index)
        check(1 <= code <= 5, "BadOpCode", f"operation {index}: {code}")
        check(flags & ~1 == 0, "BadFlags", f"operation {index}: {flags:#04x}")

        def take(count):
            nonlocal at
            check(at + count <= len(frame), "OutOfFrame", f"operation {index}: bytes {at} to {at + count}")
            at += count
            return frame[at - count:at]

        operand = take({2: 4, 4: 12, 5: 8}.get(code, 0))
        line = f"{index}: {OPS[code]} {shown(take(key_bytes))}"
        if code == 4:
            line += f" expected {unpack_from('<Q', operand)[0]}"
        if code in (2, 4):
            value_bytes = int.from_bytes(operand[-4:], "little")
            check(value_bytes <= VALUE_BYTES_MAX, "ValueTooLong", f"operation {index}: {value_bytes}")
            line += f" value {shown(take(value_bytes))}"
        if code == 5:
            line += f" delta {unpack_from('<q', operand)[0]}"
        yield line + (", version wanted" if flags else "")
    check(at == len(frame), "PayloadMismatch", f"{len(frame) - at} bytes belong to no operation")


def decode_reply(frame, _, op_count):
    begin, stretches, lines = 64 + 8 * op_count, [], []
    for index in range(op_count):
        word, offset = unpack_from("<II", frame, 64 + 8 * index)
        status, versioned, value_bytes = word & 0x7F, word >> 7 & 1, word >> 8
        check(1 <= status <= 9, "BadStatus", f"operation {index}: {word & 0xFF}")
        check(status != 3 or value_bytes == 8, "BadCounter", f"operation {index}: {value_bytes}")
        most = {1: VALUE_BYTES_MAX, 3: 8}.get(status, 0)
        check(value_bytes <= most, "ValueTooLong", f"operation {index}: {value_bytes}")
        check(status <= 3 or versioned == (status == 5), "BadStatus", f"operation {index}: {word & 0xFF}")
        end = offset + value_bytes + 8 * versioned
        check(begin <= offset and end <= len(frame), "OutOfFrame", f"operation {index}: bytes {offset} to {end}")
        if end > offset:
            stretches.append((offset, end, index))
        value = frame[end - value_bytes:end]
        text = shown(value) if status == 1 else unpack_from("<q", value)[0] if status == 3 else ""
        version = f", version {unpack_from('<Q', frame, offset)[0]}" if versioned else ""
        lines.append(f"{index}: {STATUSES[status]} {text}".rstrip() + version)
    used = sum(end - offset for offset, end, _ in stretches)
    check(used == len(frame) - begin, "PayloadMismatch", f"{used} bytes used of {len(frame) - begin}")
    stretches.sort()
    for (_, end, _), (offset, _, index) in zip(stretches, stretches[1:]):
        check(end <= offset, "Overlap", f"operation {index}: begins at {offset}, another ends at {end}")
    yield from lines


def decode_service(frame, kind, _):
    body = frame[64:]
    if kind in (1, 2):
        first, second, half, limit, capabilities = unpack_from("<BBHIQ", body)
        in_flight, permissions = unpack_from("<II", body, 32) if kind == 2 else (1, 0)
        check(kind == 2 or body[16:24] == bytes(8), "ReservedNotZero", "at byte 80")
        check(kind == 2 or first <= second, "BadBody", "version range")
        check(kind == 1 or second == 0, "ReservedNotZero", "at byte 65")
        check(kind == 1 or first == 1, "BadVersion", first)
        check(in_flight > 0, "BadBody", "number of frames in flight")
        check(FRAME_BYTES_MIN <= limit <= FRAME_BYTES_MAX, "BadFrameLimit", limit)
        yield f"frames up to {limit} bytes, capabilities {capabilities:#x}"
        if kind == 1:
            yield f"versions {first} to {second}, authentication method {half} {shown(body[24:])}"
        else:
            yield f"version {first}, {'no one cpu' if half == 65_535 else f'cpu {half}'}"
            yield f"incarnation {body[16:32].hex()}"
            yield f"{in_flight} frames in flight, wire limit {'allowed' if permissions & 1 else 'not allowed'}"
    elif kind == 5:
        code = int.from_bytes(body[:2], "little")
        check(1 <= code <= 7, "BadBody", "refusal code")
        text = utf8(body[2:], "refusal text")
        check(all(unicodedata.category(char) != "Cc" for char in text), "BadBody", "refusal text")
        yield f"{REFUSALS[code]}: {text}"
    elif kind == 7:
        yield utf8(body, "statistics")
    elif kind == 8:
        reply_bytes = int.from_bytes(body[:4], "little")
        check(64 <= reply_bytes <= FRAME_BYTES_MAX, "BadFrameBytes", reply_bytes)
        yield f"asks for {reply_bytes} bytes, {len(body) - 4} bytes to fill"
    else:
        yield f"{len(body)} bytes behind the header"


def read_frame(data):
    """Bytes of a frame from hex text with comments, or as they are."""
    try:
        return bytes.fromhex(" ".join(line.split("#")[0] for line in data.decode().splitlines()))
    except ValueError:
        return data


def decoded(data):
    """The lines of a frame, or the one line that says what is wrong with it."""
    try:
        return list(decode(read_frame(data)))
    except WireError as error:
        return [f"error: {error}"]


if __name__ == "__main__":
    out = decoded(open(sys.argv[1], "rb").read() if sys.argv[1:] else sys.stdin.buffer.read())
    print("\n".join(out))
    sys.exit(out[0].startswith("error:"))
