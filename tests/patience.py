"""Time limits of tests in which something has to have begun before the time is up.

    for deadline in longer(0.1):
        ...  # ask something that takes for ever
        if asked:
            break

On a machine that stood still the time may be up before anything has begun, which is another case:
then it is asked again, with more time.
"""

from collections.abc import Iterator

__all__ = ["longer"]


def longer(first: float) -> Iterator[float]:
    """Give a time, and after it some that are longer."""
    yield first
    yield max(10 * first, 2.0)
    yield 60.0
