"""Telling: commit first, publish after, react once. `bus.Bus` is the way in."""
