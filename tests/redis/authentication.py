"""The Python client `redis` (redis-py) at a node that has users: `authentication.py PORT`. Ends with 0 where all holds."""

import sys

import redis


def refused(words, **options):
    try:
        redis.Redis(port=int(sys.argv[1]), **options).get("k")
    except redis.exceptions.RedisError as error:
        assert words in str(error), error
        return
    raise AssertionError(f"{options} was let in")


def main():
    for options in [{"password": "default-word"}, {"username": "ro", "password": "ro-word"}]:
        client = redis.Redis(port=int(sys.argv[1]), **options)
        assert client.get("k") == b"v", options
    try:
        client.set("k", "w")
    except redis.exceptions.NoPermissionError as error:
        assert str(error) == "this user has no permissions to run the 'set' command", error
    else:
        raise AssertionError("a reader wrote")
    refused("Authentication required.")
    refused("invalid username-password pair or user is disabled.", username="ro", password="wrong")
    refused("invalid username-password pair or user is disabled.", username="nobody", password="ro-word")


main()
