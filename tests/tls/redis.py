"""The Python client `redis` (redis-py) at a node over TLS: `redis.py PORT CA`. Ends with 0 where all holds."""

import socket
import ssl
import sys

# This file's own folder would come first, and this file is called as the client is.
sys.path.pop(0)

import redis  # noqa: E402


def main():
    port, ca = int(sys.argv[1]), sys.argv[2]
    client = redis.Redis(host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=ca)
    assert client.set("k", "v") and client.get("k") == b"v"
    value = bytes(range(256)) * 400
    pipeline = client.pipeline(transaction=False)
    for number in range(300):
        pipeline.set(f"long:{number}", value)
    assert all(pipeline.execute())
    for number in range(300):
        pipeline.get(f"long:{number}")
    assert all(got == value for got in pipeline.execute())
    slow(port, ca, value)


def slow(port, ca, value):
    """Thirty megabytes of replies are asked for before one byte of them is read."""
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
            assert stream.version() == "TLSv1.3", stream.version()
            stream.sendall(b"".join(b"GET long:%d\r\n" % number for number in range(300)))
            stream.sendall(b"PING\r\n")
            wanted = (b"$%d\r\n" % len(value) + value + b"\r\n") * 300 + b"+PONG\r\n"
            got = bytearray()
            while len(got) < len(wanted):
                arrived = stream.recv(1 << 16)
                assert arrived, f"closed after {len(got)} of {len(wanted)} bytes"
                got += arrived
            assert got == wanted
            stream.sendall(b"QUIT\r\n")
            assert stream.recv(100) == b"+OK\r\n"
            assert stream.recv(100) == b"", "an end with its farewell"


main()
