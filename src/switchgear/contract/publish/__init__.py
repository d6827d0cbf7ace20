"""Publishing contracts: the version that a change asks for, and the wheel that carries it."""
