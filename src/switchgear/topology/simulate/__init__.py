"""The simulator: what services, calls and policies add up to, in virtual time."""
