"""What the README shows is run: a newcomer copies it."""

import re
import sys
from pathlib import Path
from types import ModuleType

from switchgear.testing import testing

README = Path(__file__).parents[2] / "README.md"


async def test_the_first_service_works_as_printed():
    text = README.read_text()
    code = re.search(r"```python\n# greetings.py\n(.*?)```", text, re.DOTALL).group(1)
    assert len(code.strip().splitlines()) <= 30
    module = sys.modules["greetings"] = ModuleType("greetings")
    try:
        exec(compile(code, "greetings.py", "exec"), module.__dict__)  # noqa: S102
        async with testing(module.app) as t:
            greeting = await t.client(module.Greetings).greet(module.Greet(name="Ada"))
        assert greeting.text == "Hello, Ada!"
    finally:
        del sys.modules["greetings"]


def test_every_link_leads_somewhere():
    root = README.parent
    for page in [README, *root.glob("docs/**/*.md"), root / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.relative_to(root)}: {link}"
