"""The tables of events through a team's own migrations: SQL, and Alembic for real."""

import sqlite3

import pytest

from switchgear.database.schema import SchemaError
from switchgear.database.sqlite import Sqlite
from switchgear.events import migrations
from switchgear.events.inbox import STEPS as INBOX
from switchgear.events.outbox import STEPS as OUTBOX
from switchgear.events.parked import STEPS as PARKED

REVISION = """
from alembic import op
from switchgear.events import migrations
revision, down_revision, branch_labels, depends_on = "1", None, None, None
def upgrade(): migrations.upgrade(op)
def downgrade(): pass
"""


def tables(connection):
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    return [row[0] for row in rows]


async def made_by_the_library(path):
    database = Sqlite(path)
    for name, steps in (("outbox", OUTBOX), ("inbox", INBOX), ("parked", PARKED)):
        await database.migrate(name, steps)
    await database.close()
    connection = sqlite3.connect(path)
    found = tables(connection), connection.execute("SELECT * FROM switchgear_schema").fetchall()
    connection.close()
    return found


async def test_the_script_makes_what_the_library_makes(tmp_path):
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.executescript(";\n".join(migrations.script("sqlite")))
    versions = connection.execute("SELECT * FROM switchgear_schema").fetchall()
    found = tables(connection), versions
    connection.close()
    assert found == await made_by_the_library(tmp_path / "b.db")
    # and the library, when it starts, has nothing to do
    assert found == await made_by_the_library(tmp_path / "a.db")


async def test_the_script_runs_on_postgresql_with_the_brokers_tables(pool):
    from switchgear.database.postgres import Postgres

    await pool.execute(";".join(migrations.script("postgres", list(migrations.COMPONENTS))))
    for name, steps in migrations.COMPONENTS.items():
        await Postgres(pool).migrate(name, steps)


def test_what_is_there_is_not_made_again():
    since = {"outbox": len(OUTBOX), "inbox": 0}
    statements = " ".join(migrations.script("sqlite", ["outbox", "inbox"], since=since))
    assert "CREATE TABLE switchgear_outbox" not in statements
    assert "CREATE TABLE switchgear_inbox" in statements
    with pytest.raises(SchemaError, match="outbox are at version 99"):
        migrations.script("sqlite", ["outbox"], since={"outbox": 99})


@pytest.fixture
def alembic(tmp_path):
    from alembic.config import Config

    (tmp_path / "m" / "versions").mkdir(parents=True)
    (tmp_path / "m" / "versions" / "1.py").write_text(REVISION)
    (tmp_path / "m" / "env.py").write_text(
        "from alembic import context\n"
        "from sqlalchemy import create_engine\n"
        "url = context.config.get_main_option('sqlalchemy.url')\n"
        "if context.is_offline_mode():\n"
        "    context.configure(url=url, literal_binds=True)\n"
        "    with context.begin_transaction(): context.run_migrations()\n"
        "else:\n"
        "    engine = create_engine(url)\n"
        "    with engine.connect() as connection:\n"
        "        context.configure(connection=connection)\n"
        "        with context.begin_transaction(): context.run_migrations()\n"
        "    engine.dispose()\n"
    )
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "m"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path / 'a.db'}")
    return config


async def test_a_revision_of_alembic_makes_what_the_library_makes(tmp_path, alembic):
    from alembic import command

    command.upgrade(alembic, "head")
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("DROP TABLE alembic_version")
    versions = connection.execute("SELECT * FROM switchgear_schema").fetchall()
    found = tables(connection), versions
    connection.close()
    assert found == await made_by_the_library(tmp_path / "b.db")


def test_alembic_offline_writes_the_statements_down(alembic, capsys):
    from alembic import command

    command.upgrade(alembic, "head", sql=True)
    said = capsys.readouterr().out
    for statement in migrations.script("sqlite"):
        assert " ".join(statement.split()) in " ".join(said.split())
