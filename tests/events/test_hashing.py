"""The partition of a key is Kafka's. The vectors are those of Kafka's own `UtilsTest`."""

import pytest

from switchgear.events.brokers.hashing import murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(data, signed):
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_the_partition_is_the_positive_hash_modulo_their_number():
    assert partition_of("foobar", 7) == (-790332482 & 0x7FFFFFFF) % 7


def test_a_topic_of_one_partition_takes_every_key():
    assert {partition_of(str(number), 1) for number in range(100)} == {0}
