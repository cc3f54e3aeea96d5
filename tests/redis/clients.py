"""The Python client `redis` (redis-py) doing real work on a node: `clients.py PORT`. Ends with 0 where all of it holds."""

import sys
import threading

import redis


def strings(client):
    client.flushall()
    assert client.ping() is True
    assert client.set("name", "freight") is True
    assert client.get("name") == b"freight" and client.get("nobody") is None
    assert client.mset({f"key:{i}": i for i in range(100)}) is True
    assert client.mget([f"key:{i}" for i in range(101)]) == [str(i).encode() for i in range(100)] + [None]
    assert client.exists("key:1", "key:2", "nobody") == 2
    assert client.strlen("name") == 7 and client.type("name") == b"string"
    assert client.delete("key:1", "key:2") == 2 and client.unlink("key:3", "nobody") == 1
    binary = bytes(range(256)) * 4000
    assert client.set(binary[:1000], binary) is True and client.get(binary[:1000]) == binary
    try:
        client.incr("name")
    except redis.ResponseError as error:
        assert str(error) == "value is not an integer or out of range", error
    else:
        raise AssertionError("text is no number")
    try:
        client.execute_command("LPUSH", "list", 1)
    except redis.ResponseError as error:
        assert str(error).startswith("unknown command 'LPUSH'"), error
    else:
        raise AssertionError("there are no lists")


def deadlines(client):
    assert client.set("soon", "v", ex=1000, nx=True) is True and client.set("soon", "v", nx=True) is None
    assert 990 < client.ttl("soon") <= 1000 and client.persist("soon") == 1 and client.ttl("soon") == -1
    assert client.expireat("soon", 4102444800) is True and client.expiretime("soon") == 4102444800
    assert client.set("soon", "w", keepttl=True, get=True) == b"v" and client.pexpiretime("soon") == 4102444800000
    assert client.getex("soon", px=1) == b"w"
    while client.get("soon") is not None:
        pass
    assert client.setex("soon", 100, "x") is True and client.getset("soon", "y") == b"x" and client.ttl("soon") == -1
    assert client.append("soon", "z") == 2 and client.getdel("soon") == b"yz" and client.ttl("soon") == -2
    assert client.setnx("soon", 1) is True and client.expire("soon", -1) is True and client.exists("soon") == 0


def pipelines(client):
    pipeline = client.pipeline(transaction=False)
    for i in range(10_000):
        pipeline.set(f"p:{i}", i)
    assert pipeline.execute() == [True] * 10_000
    for i in range(10_000):
        pipeline.get(f"p:{i}")
        pipeline.incrby("sum", i)
    replies = pipeline.execute()
    assert replies[0::2] == [str(i).encode() for i in range(10_000)]
    assert replies[-1] == sum(range(10_000)) == int(client.get("sum"))


def counters(port):
    """Threads of one pool count to the same number."""
    client = redis.Redis(port=port)
    client.delete("counter")
    threads = [threading.Thread(target=lambda: [client.incr("counter") for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("counter") == b"4000"


def node(client):
    client.flushall()
    assert client.dbsize() == 0
    client.mset({f"scan:{i}": "v" for i in range(3_000)})
    assert sorted(client.scan_iter("scan:1*")) == sorted(f"scan:{i}".encode() for i in range(3_000) if str(i)[0] == "1")
    assert client.dbsize() == 3_000 and client.info()["db0"]["keys"] == 3_000
    assert client.info("server")["redis_version"].startswith("7.") and client.info()["freight_version"]
    assert client.config_get("save") == {"save": ""} and client.config_get("maxmemory") == {"maxmemory": "0"}
    assert client.client_setname("python") is True and client.client_getname() == "python"
    (own,) = [one for one in client.client_list() if one["id"] == str(client.client_id())]
    assert own["name"] == "python" and own["db"] == "0"
    assert "get" in client.command() and client.command_count() == len(client.command())
    assert client.echo("words") == b"words" and client.flushdb() is True and client.dbsize() == 0


def main():
    port = int(sys.argv[1])
    client = redis.Redis(port=port, single_connection_client=True)
    strings(client)
    deadlines(client)
    pipelines(client)
    counters(port)
    node(client)


main()
