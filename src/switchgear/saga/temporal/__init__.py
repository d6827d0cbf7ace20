"""Sagas on a Temporal cluster: the same definitions, by the same rules."""

from switchgear.saga.temporal.engine import TemporalEngine
from switchgear.saga.temporal.place import Place

__all__ = ["Place", "TemporalEngine"]
