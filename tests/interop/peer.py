"""The published Python package `cachekit`, one verb a call, for tests of the formats that we share with it.

Every verb prints one JSON object a line (`lock` prints two: held, then done). Exit code 0: done, and a miss is done with
"hit": false. 1: the package raised; the object has "error", "mro", "message" and, for a backend's error, "error_type".
2: wrong usage, text on stderr.

    version
    key NS OP ARGS                                canonical ARGS
    encode VALUE                                  decode HEX
    default-key MODULE QUALNAME ARGS [KWARGS]     [--ns NS] [--no-integrity] [--serializer NAME]
    redis|file|memcached-set PLACE NS OP ARGS VALUE    [--ttl S] [--secure KEYHEX] [--previous HEX,HEX] [--tenant UUID]
    redis|file|memcached-get PLACE NS OP ARGS          [the same, --fail-closed]
    redis|file|memcached-del PLACE NS OP ARGS          PLACE: a URL, a directory, or JSON: a list of servers or an
                                                       object of the fields of MemcachedBackendConfig
    raw-set BACKEND KEY HEX [--ttl S]             raw-get|raw-del|raw-exists|raw-ttl BACKEND KEY
    raw-refresh BACKEND KEY TTL                   BACKEND: redis:URL, tenant:TENANT@URL, file:DIR, memcached:SERVERS
    auto-set BACKEND MODULE QUALNAME ARGS VALUE   [--ns NS] [--ttl S] [--secure KEYHEX] [--serializer N] [--no-integrity]
    auto-get BACKEND MODULE QUALNAME ARGS         [the same]
    secure-encrypt KEYHEX TENANT KEY VALUE        secure-decrypt KEYHEX TENANT KEY HEX [--previous HEX,HEX]
    frame-encode VALUE                            frame-decode HEX [--no-integrity] [--secure KEYHEX --tenant T --key KEY]
    bytestorage-store HEX [FORMAT]                bytestorage-retrieve HEX
    lock BACKEND KEY HOLD_SECONDS                 [--timeout S] [--blocking S]
    mc-node SERVERS KEY                           publish URL REGISTRY_ID [KEY]

ARGS, KWARGS and VALUE are JSON; an object with "$t" is a typed value (`typed.py`), and output is always typed. JSON and
HEX may be @FILE, or @- for stdin. `--` stands before positionals that begin with a minus sign.

The interop and auto verbs take the real decorator's way with L1, breaker and backpressure off, so the bytes are the
package's own. `set` invalidates first, because the decorator stores only what is not there.
"""

import argparse
import asyncio
import json
import logging
import os
import sys

from typed import from_json, to_json

logging.disable(logging.CRITICAL)


class Usage(Exception):
    """The command line is wrong."""


class Miss(Exception):
    """The decorated function was called: nothing was cached."""


# ---- what a verb is about

def open_backend(spec):
    kind, _, rest = spec.partition(":")
    if kind == "redis":
        from cachekit.backends.redis import RedisBackend

        return RedisBackend(redis_url=rest)
    if kind == "tenant":
        import redis
        from cachekit.backends.redis.provider import PerRequestRedisBackend

        tenant, _, url = rest.partition("@")
        return PerRequestRedisBackend(redis.Redis.from_url(url), tenant)
    if kind == "file":
        from cachekit.backends.file import FileBackend, FileBackendConfig

        return FileBackend(FileBackendConfig(cache_dir=rest))
    if kind == "memcached":
        from cachekit.backends.memcached import MemcachedBackend, MemcachedBackendConfig

        given = json.loads(rest)
        return MemcachedBackend(MemcachedBackendConfig(**(given if isinstance(given, dict) else {"servers": given})))
    raise Usage(f"unknown backend {spec!r}")


def function(count, body, module="cachekit_peer", qualname="peer"):
    """A function of so many positional parameters; the decorator looks at signatures and names."""
    names = ", ".join(f"a{n}" for n in range(count))
    scope = {"body": body}
    exec(f"def peer({names}):\n    return body()", scope)  # noqa: S102
    made = scope["peer"]
    made.__module__, made.__qualname__, made.__name__ = module, qualname, qualname.rsplit(".", 1)[-1]
    return made


def decorated(made, backend, options, **more):
    from cachekit import DecoratorConfig, cache
    from cachekit.config import nested

    encryption = nested.EncryptionConfig(enabled=False)
    if options.secure:
        encryption = nested.EncryptionConfig(
            enabled=True, master_key=options.secure, single_tenant_mode=True,
            deployment_uuid=options.tenant, fail_closed=options.fail_closed,
        )
    config = DecoratorConfig(
        backend=backend, ttl=options.ttl, encryption=encryption,
        l1=nested.L1CacheConfig(enabled=False),
        circuit_breaker=nested.CircuitBreakerConfig(enabled=False),
        backpressure=nested.BackpressureConfig(enabled=False),
        monitoring=nested.MonitoringConfig(
            collect_stats=False, enable_structured_logging=False, enable_prometheus_metrics=False
        ),
        **more,
    )
    return cache(config=config)(made)


def store(backend, arguments, value, options, names, **more):
    cached = decorated(function(len(arguments), lambda: value, *names), backend, options, **more)
    cached.invalidate_cache(*arguments)
    cached(*arguments)


def lookup(backend, arguments, options, names, **more):
    def body():
        raise Miss

    cached = decorated(function(len(arguments), body, *names), backend, options, **more)
    try:
        return {"hit": True, "value": to_json(cached(*arguments))}
    except Miss:
        return {"hit": False}


# ---- arguments

def text_of(argument):
    if not argument.startswith("@"):
        return argument
    if argument == "@-":
        return sys.stdin.read()
    with open(argument[1:], encoding="utf-8") as file:
        return file.read()


def value_of(argument):
    try:
        return from_json(json.loads(text_of(argument)))
    except Exception as error:  # noqa: BLE001
        raise Usage(f"JSON argument: {type(error).__name__}: {error}") from None


def list_of(argument):
    value = value_of(argument)
    if not isinstance(value, list):
        raise Usage("ARGS must be a JSON array")
    return value


def bytes_of(argument):
    try:
        return bytes.fromhex(text_of(argument).strip())
    except (OSError, ValueError) as error:
        raise Usage(f"HEX argument: {error}") from None


# ---- verbs

def version(_options):
    from importlib.metadata import version as installed

    return {"cachekit": installed("cachekit"), "python": sys.version.split()[0]}


def key(_options, namespace, operation, arguments):
    from cachekit.interop import generate_interop_key

    return {"key": generate_interop_key(namespace, operation, list_of(arguments))}


def canonical(_options, arguments):
    from cachekit.interop import args_hash, canonical_args_bytes

    value = value_of(arguments)
    return {"hex": canonical_args_bytes(value).hex(), "args_hash": args_hash(value)}


def encode(_options, value):
    from cachekit.interop import encode_interop_value

    return {"hex": encode_interop_value(value_of(value)).hex()}


def decode(_options, stored):
    from cachekit.interop import decode_interop_value

    return {"value": to_json(decode_interop_value(bytes_of(stored)))}


def generated_key(options, names, arguments, keywords):
    from cachekit.key_generator import CacheKeyGenerator

    made = function(0, None, *names)
    integrity = not options.no_integrity
    return CacheKeyGenerator().generate_key(
        made, tuple(arguments), keywords, options.ns, integrity, options.serializer
    )


def default_key(options, module, qualname, arguments, keywords="{}"):
    return {"key": generated_key(options, (module, qualname), list_of(arguments), value_of(keywords))}


def interop(kind, verb):
    def run(options, place, namespace, operation, arguments, *value):
        from cachekit.interop import generate_interop_key

        backend = open_backend(f"{kind}:{place}")
        arguments = list_of(arguments)
        name = generate_interop_key(namespace, operation, arguments)
        more = {"interop": operation, "namespace": namespace}
        if verb == "set":
            store(backend, arguments, value_of(*value), options, (), **more)
            return {"key": name, "stored": backend.exists(name)}
        if verb == "del":
            return {"key": name, "deleted": backend.delete(name)}
        return {"key": name, **lookup(backend, arguments, options, (), **more)}

    return run


def auto(verb):
    def run(options, spec, module, qualname, arguments, *value):
        backend = open_backend(spec)
        arguments = list_of(arguments)
        name = generated_key(options, (module, qualname), arguments, {})
        more = {
            "interop": None, "namespace": options.ns,
            "serializer": options.serializer, "integrity_checking": not options.no_integrity,
        }
        if verb == "set":
            store(backend, arguments, value_of(*value), options, (module, qualname), **more)
            return {"key": name, "stored": backend.exists(name)}
        return {"key": name, **lookup(backend, arguments, options, (module, qualname), **more)}

    return run


def raw_set(options, spec, name, value):
    open_backend(spec).set(name, bytes_of(value), options.ttl)
    return {"ok": True}


def raw_get(_options, spec, name):
    value = open_backend(spec).get(name)
    return {"hit": value is not None, "hex": None if value is None else value.hex()}


def raw_del(_options, spec, name):
    return {"deleted": open_backend(spec).delete(name)}


def raw_exists(_options, spec, name):
    return {"exists": open_backend(spec).exists(name)}


def raw_ttl(_options, spec, name):
    return {"ttl": asyncio.run(open_backend(spec).get_ttl(name))}


def raw_refresh(_options, spec, name, ttl):
    return {"refreshed": asyncio.run(open_backend(spec).refresh_ttl(name, int(ttl)))}


def wrapper(options, master_key, tenant):
    from cachekit.serializers.encryption_wrapper import EncryptionWrapper
    from cachekit.serializers.interop_serializer import InteropSerializer

    previous = [bytes.fromhex(one) for one in (options.previous or "").split(",") if one]
    return EncryptionWrapper(
        serializer=InteropSerializer(), master_key=bytes_of(master_key), tenant_id=tenant, previous_master_keys=previous
    )


def secure_encrypt(options, master_key, tenant, name, value):
    wrapped = wrapper(options, master_key, tenant)
    data, metadata = wrapped.serialize(value_of(value), cache_key=name)
    aad = wrapped._create_aad(metadata, name)
    return {"hex": data.hex(), "aad": aad.hex(), "fingerprint": wrapped.encryption_key_fingerprint}


def secure_decrypt(options, master_key, tenant, name, stored):
    from cachekit.serializers.base import SerializationFormat, SerializationMetadata

    metadata = SerializationMetadata(
        SerializationFormat.MSGPACK, compressed=False, original_type=None, encrypted=True, tenant_id=tenant
    )
    wrapped = wrapper(options, master_key, tenant)
    return {"value": to_json(wrapped.deserialize_without_key_identity(bytes_of(stored), metadata, name))}


def handler(options):
    from cachekit.cache_handler import CacheSerializationHandler

    secure = bool(options.secure)
    return CacheSerializationHandler(
        serializer_name=options.serializer, encryption=secure, single_tenant_mode=secure,
        deployment_uuid=options.tenant, master_key=options.secure, enable_integrity_checking=not options.no_integrity,
    )


def frame_encode(options, value):
    return {"hex": handler(options).serialize_data(value_of(value), cache_key=options.key or "").hex()}


def frame_decode(options, stored):
    return {"value": to_json(handler(options).deserialize_data(bytes_of(stored), cache_key=options.key or ""))}


def bytestorage_store(_options, value, form=None):
    from cachekit._rust_serializer import ByteStorage

    return {"hex": bytes(ByteStorage("msgpack").store(bytes_of(value), form)).hex()}


def bytestorage_retrieve(_options, stored):
    from cachekit._rust_serializer import ByteStorage

    data, form = ByteStorage("msgpack").retrieve(bytes_of(stored))
    return {"hex": bytes(data).hex(), "format": form}


def lock(options, spec, name, seconds):
    backend = open_backend(spec)

    async def hold():
        asked = {"timeout": options.timeout, "blocking_timeout": options.blocking}
        async with backend.acquire_lock(name, **asked) as acquired:
            if acquired:
                print(json.dumps({"acquired": True, "phase": "held"}), flush=True)
                await asyncio.sleep(float(seconds))
            return acquired

    return {"acquired": asyncio.run(hold()), "phase": "done"}


def mc_node(_options, servers, name):
    backend = open_backend(f"memcached:{servers}")
    return {"node": backend._client.hasher.get_node(backend._prefixed_key(name))}


def publish(_options, url, registry, name=None):
    import redis
    from cachekit.invalidation import CHANNEL, encode_event

    payload = encode_event(registry, name)
    receivers = redis.Redis.from_url(url).publish(CHANNEL, payload)
    return {"channel": CHANNEL, "payload": payload.hex(), "receivers": receivers}


# How many positionals each verb takes, at least and at most.
VERBS = {
    "version": (version, 0, 0), "key": (key, 3, 3), "canonical": (canonical, 1, 1), "encode": (encode, 1, 1),
    "decode": (decode, 1, 1), "default-key": (default_key, 3, 4),
    **{f"{kind}-set": (interop(kind, "set"), 5, 5) for kind in ("redis", "file", "memcached")},
    **{f"{kind}-{verb}": (interop(kind, verb), 4, 4) for kind in ("redis", "file", "memcached") for verb in ("get", "del")},
    "raw-set": (raw_set, 3, 3), "raw-get": (raw_get, 2, 2), "raw-del": (raw_del, 2, 2), "raw-exists": (raw_exists, 2, 2),
    "raw-ttl": (raw_ttl, 2, 2), "raw-refresh": (raw_refresh, 3, 3),
    "auto-set": (auto("set"), 5, 5), "auto-get": (auto("get"), 4, 4),
    "secure-encrypt": (secure_encrypt, 4, 4), "secure-decrypt": (secure_decrypt, 4, 4),
    "frame-encode": (frame_encode, 1, 1), "frame-decode": (frame_decode, 1, 1),
    "bytestorage-store": (bytestorage_store, 1, 2), "bytestorage-retrieve": (bytestorage_retrieve, 1, 1),
    "lock": (lock, 3, 3), "mc-node": (mc_node, 2, 2), "publish": (publish, 2, 3),
}


def raised(error):
    names = [one.__name__ for one in type(error).__mro__ if one not in (object, BaseException)]
    said = {"error": type(error).__name__, "mro": names, "message": str(error)[:400]}
    kind = getattr(error, "error_type", None)
    if kind is not None:
        said["error_type"] = getattr(kind, "value", str(kind))
    return said


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=VERBS, metavar="VERB")
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--ttl", type=int)
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--blocking", type=float)
    parser.add_argument("--serializer", default="default")
    parser.add_argument("--no-integrity", action="store_true")
    parser.add_argument("--fail-closed", action="store_true", default=None)
    for name in ("--secure", "--previous", "--tenant", "--ns", "--key"):
        parser.add_argument(name)
    options = parser.parse_intermixed_args(argv)
    run, fewest, most = VERBS[options.verb]
    if not fewest <= len(options.rest) <= most:
        parser.exit(2, f"{options.verb}: {fewest} to {most} positional arguments, got {len(options.rest)}\n")
    if options.previous is not None:
        # The package takes previous keys from its environment alone.
        os.environ["CACHEKIT_PREVIOUS_MASTER_KEYS"] = options.previous
    try:
        answer = run(options, *options.rest)
    except Usage as error:
        parser.exit(2, f"{error}\n")
    except Exception as error:  # noqa: BLE001
        print(json.dumps(raised(error)))
        return 1
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
