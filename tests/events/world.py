"""Events that the tests of this package share, and how they wait."""

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.testing.conformance.world import until

__all__ = ["News", "OrderCancelled", "OrderPlaced", "Picture", "until"]


@event("test.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)
    number: int = field(2)


@event("test.orders", key="order_id")
class OrderCancelled(Message):
    order_id: str = field(1)
    number: int = field(2)


@event("test.news", unordered=True)
class News(Message):
    number: int = field(1)


@event("test.pictures", key="name")
class Picture(Message):
    name: str = field(1)
    pixels: str = field(2)
