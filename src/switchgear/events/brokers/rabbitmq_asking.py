"""Which queues of RabbitMQ answer: asked on a connection that may be lost over it.

A quorum queue whose leader is gone answers nobody. Whoever wants to read it waits, and RabbitMQ
then ends his whole *connection*: at once if the process is gone, after 65 seconds if it hangs (seen
on 3.10). That the queue exists, and has nothing in it, RabbitMQ says all the same. So before a
queue is read it is asked something, by a connection on which nothing else is. The question changes
nothing: `basic.get`, which the leader of a queue with a single active consumer refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.brokers.rabbitmq_client import RabbitSettings, import_aiormq, talking
from switchgear.events.brokers.rabbitmq_publisher import Link

__all__ = ["unanswered"]


async def unanswered(
    settings: RabbitSettings, queues: Sequence[str], *, within: float
) -> frozenset[str]:
    """Return those of `queues` that do not answer within so many seconds.

    Raises `BrokerUnavailable`, or `BrokerError`, if no connection is to be had.
    """
    if not queues:
        return frozenset()
    link = Link(settings, "switchgear asking")
    try:
        await link.connection()
        answers = await asyncio.gather(*(_answers(link, queue, within) for queue in queues))
    finally:
        await link.close()
    if None not in answers:
        return frozenset(queue for queue, told in zip(queues, answers, strict=True) if not told)
    if len(queues) == 1:
        return frozenset(queues)
    # one of them has ended the connection, and nothing says for certain which
    middle = len(queues) // 2
    return await unanswered(settings, queues[:middle], within=within) | await unanswered(
        settings, queues[middle:], within=within
    )


async def _answers(link: Link, queue: str, within: float) -> bool | None:
    """Tell whether a queue answers; None: the connection was lost before that was known."""
    try:
        channel = await link.channel()
        async with talking(f"asking the queue {queue}", within=within):
            await channel.basic_get(queue)
    except BrokerError:
        return True  # a refusal; whoever reads it is told
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, TimeoutError):
            return False
        refused = isinstance(error.__cause__, import_aiormq().exceptions.ChannelLockedResource)
        return True if refused else None
    return True
