"""The tutorial's code is one file, and it does what the page says."""

import re
import sys
from pathlib import Path

import pytest

from switchgear.app.target import load_target
from switchgear.config import load as load_config
from switchgear.errors import SagaDefinitionError
from switchgear.testing import testing

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "README.md"


@pytest.fixture
def tea(tmp_path, monkeypatch):
    text = PAGE.read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    (tmp_path / "tea.py").write_text(code)
    (tmp_path / "runbook.md").write_text("# What to do\n")
    toml = re.search(r"```toml\n(.*?)```", text, re.DOTALL).group(1)
    (tmp_path / "switchgear.toml").write_text(toml)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("tea", None)


async def test_its_own_test_passes(tea):
    import tea as module

    await module.test_an_order_is_served()


async def test_what_cannot_be_served_is_turned_down(tea):
    import tea as module

    async with testing(module.cupboard_app) as cupboard:
        with pytest.raises(module.TooFew):
            await cupboard.client(module.Cupboard).take(module.Take(order_id="a", cups=7))
    async with testing(module.waiter_app) as waiter:
        await waiter.deliver(module.OrderServed(order_id="a"))
        async with waiter.transaction() as tx:
            assert await tx.execute("SELECT text FROM said") == [("a: your tea!",)]


def test_without_the_runbook_it_is_not_imported(tea):
    (tea / "runbook.md").unlink()
    with pytest.raises(SagaDefinitionError, match=r"runbook\.md does not exist"):
        import tea


def test_its_configuration_names_the_three_services(tea):
    config = load_config(tea / "switchgear.toml")
    for name in ("cupboard", "orders", "waiter"):
        assert load_target(config.services[name].app).name == name
