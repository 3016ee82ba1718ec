"""Python values as typed JSON and back, the form that the vectors use.

Plain JSON stands for itself; what JSON lacks is an object with "$t": int, float (its bits), str_utf16 (code units, for
text that is no Unicode), bytes, datetime, date, time, uuid, decimal, path, tuple, set, frozenset, map (pairs, so that
keys may be anything), enum, ndarray.
"""

import json
import struct
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def to_json(value):
    # The order matters: an Enum may be a str, a bool is an int, a datetime is a date.
    if isinstance(value, Enum):
        return {"$t": "enum", "v": to_json(value.value)}
    if value is None or isinstance(value, bool):
        return value
    if type(value) is str:
        return text(value)
    if isinstance(value, int):
        return {"$t": "int", "v": str(value)}
    if isinstance(value, float):
        return {"$t": "float", "bits": struct.pack(">d", value).hex(), "repr": repr(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"$t": "bytes", "hex": bytes(value).hex()}
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return {"$t": "date", "iso": value.isoformat()}
    if isinstance(value, time):
        return {"$t": "time", "iso": value.isoformat()}
    if isinstance(value, UUID):
        return {"$t": "uuid", "v": str(value)}
    if isinstance(value, Decimal):
        return {"$t": "decimal", "v": str(value)}
    if isinstance(value, PurePosixPath):
        return {"$t": "path", "v": str(value)}
    if isinstance(value, list):
        return [to_json(one) for one in value]
    if isinstance(value, tuple):
        return {"$t": "tuple", "v": [to_json(one) for one in value]}
    if isinstance(value, (set, frozenset)):
        members = sorted((to_json(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
        return {"$t": "frozenset" if isinstance(value, frozenset) else "set", "v": members}
    if isinstance(value, dict):
        return {"$t": "map", "v": [[to_json(key), to_json(one)] for key, one in value.items()]}
    if type(value).__module__ == "numpy":
        return {"$t": "ndarray", "dtype": str(value.dtype), "shape": list(value.shape), "hex": value.tobytes().hex()}
    return {"$t": "opaque", "type": f"{type(value).__module__}.{type(value).__qualname__}"}


def text(value):
    try:
        value.encode("utf-8")
        return value
    except UnicodeEncodeError:
        units = value.encode("utf-16-be", "surrogatepass")
        return {"$t": "str_utf16", "units": [units[n : n + 2].hex() for n in range(0, len(units), 2)]}


def moment(value):
    said = {"$t": "datetime", "iso": value.isoformat()}
    if value.utcoffset() is not None:
        since = value - EPOCH
        said["unix_micros"] = str((since.days * 86400 + since.seconds) * 10**6 + since.microseconds)
    return said


def from_json(given):
    if isinstance(given, list):
        return [from_json(one) for one in given]
    if not isinstance(given, dict):
        return given
    kind = given.get("$t")
    if kind is None:
        return {key: from_json(one) for key, one in given.items()}
    if kind not in READERS:
        raise ValueError(f"unknown $t {kind!r}")
    return READERS[kind](given)


def float_of(given):
    return struct.unpack(">d", bytes.fromhex(given["bits"]))[0] if "bits" in given else float(given["v"])


def array_of(given):
    import numpy

    return numpy.frombuffer(bytes.fromhex(given["hex"]), dtype=given["dtype"]).reshape(given["shape"]).copy()


def hashable(value):
    return tuple(hashable(one) for one in value) if isinstance(value, list) else value


def members(given):
    return (hashable(from_json(one)) for one in given["v"])


READERS = {
    "int": lambda given: int(given["v"]),
    "float": float_of,
    "str_utf16": lambda given: b"".join(map(bytes.fromhex, given["units"])).decode("utf-16-be", "surrogatepass"),
    "bytes": lambda given: bytes.fromhex(given["hex"]),
    "datetime": lambda given: datetime.fromisoformat(given["iso"]),
    "date": lambda given: date.fromisoformat(given["iso"]),
    "time": lambda given: time.fromisoformat(given["iso"]),
    "uuid": lambda given: UUID(given["v"]),
    "decimal": lambda given: Decimal(given["v"]),
    "path": lambda given: PurePosixPath(given["v"]),
    "tuple": lambda given: tuple(from_json(one) for one in given["v"]),
    "set": lambda given: set(members(given)),
    "frozenset": lambda given: frozenset(members(given)),
    "map": lambda given: {hashable(from_json(key)): from_json(one) for key, one in given["v"]},
    "enum": lambda given: Enum("Given", {"MEMBER": from_json(given["v"])}).MEMBER,
    "ndarray": array_of,
}
