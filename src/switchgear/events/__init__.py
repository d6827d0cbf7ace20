"""Telling: commit first, publish after, react once. `Bus` is the way in."""

from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus, Health, SubscriptionHealth
from switchgear.events.handling import HandlerTransaction
from switchgear.events.outbox import Outbox
from switchgear.events.parked import Parked, ParkedEvent
from switchgear.events.relay import Relay

__all__ = [
    "Broker",
    "Bus",
    "HandlerTransaction",
    "Health",
    "Outbox",
    "Parked",
    "ParkedEvent",
    "Relay",
    "SqliteBroker",
    "SubscriptionHealth",
    "broker_of",
]
