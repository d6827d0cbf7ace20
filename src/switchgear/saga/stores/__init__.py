"""Where sagas are kept: in the service's own database."""

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.saga.stores.port import Store
from switchgear.saga.stores.portable import PortableStore
from switchgear.saga.stores.sqlite import SqliteStore

__all__ = ["store_of"]


def store_of(database: Database) -> Store:
    """Return the store for `database`: the fast one for SQLite, the portable one for others."""
    return SqliteStore(database) if isinstance(database, Sqlite) else PortableStore(database)
