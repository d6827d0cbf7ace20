"""Key to partition, as Kafka's default partitioner does it, on every broker.

The source of the rule is `Utils.murmur2` and `BuiltInPartitioner.partitionForKey` of Apache Kafka's
Java client, so a producer in another language that follows Kafka agrees with ours.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

__all__ = ["murmur2", "partition_of"]

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the 32-bit MurmurHash2 of `data` with Kafka's seed, unsigned."""
    length = len(data)
    whole = length & ~3
    h = _SEED ^ length
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        mixed = (k * _M) & _MASK
        mixed = ((mixed ^ (mixed >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ mixed
    if length > whole:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition of `key` in a topic with `partitions` partitions, from 0."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
