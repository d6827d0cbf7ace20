"""A word that SQLite does not know would weaken durability without a sound."""

from contextlib import AsyncExitStack

import pytest

from switchgear.app.runtime import open_database
from switchgear.config import load
from switchgear.errors import ConfigError

TOML = """
[system]
name = "one"
[services.kitchen]
app = "kitchen:app"
database = "sqlite:///kitchen.db?{option}"
"""


async def opened(tmp_path, option):
    (tmp_path / "switchgear.toml").write_text(TOML.format(option=option))
    config = load(tmp_path / "switchgear.toml", {})
    async with AsyncExitStack() as stack:
        return await open_database(config.service("kitchen"), config, stack)


async def test_known_words_are_taken(tmp_path):
    assert (await opened(tmp_path, "synchronous=normal")).path.name == "kitchen.db"


@pytest.mark.parametrize("option", ["synchronous=FUL", "foo=1"])
async def test_others_are_refused(tmp_path, option):
    with pytest.raises(ConfigError, match="synchronous=FULL, NORMAL or OFF"):
        await opened(tmp_path, option)
