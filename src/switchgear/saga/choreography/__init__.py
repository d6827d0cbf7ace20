"""Choreographed sagas: what follows from an event, through all services, and what undoes it."""
