"""The File backend of the published Python package, one operation per call.

    file_peer.py DIR set KEY HEX [TTL_SECONDS]
    file_peer.py DIR get KEY            prints hex, or "miss"
    file_peer.py DIR exists|del KEY     prints True or False
"""

import sys

from cachekit.backends.file import FileBackend, FileBackendConfig


def main(directory, verb, key, *rest):
    backend = FileBackend(FileBackendConfig(cache_dir=directory))
    if verb == "set":
        backend.set(key, bytes.fromhex(rest[0]), ttl=int(rest[1]) if len(rest) > 1 else None)
        print("ok")
    elif verb == "get":
        value = backend.get(key)
        print("miss" if value is None else value.hex() or "empty")
    elif verb == "exists":
        print(backend.exists(key))
    elif verb == "del":
        print(backend.delete(key))
    else:
        sys.exit(f"no such verb: {verb}")


main(*sys.argv[1:])
