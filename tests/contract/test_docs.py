"""What stands below fields and members, read from the source of their module."""

import importlib
import sys
import textwrap
import time
from inspect import getsource

from switchgear.contract import docs
from switchgear.contract.declaration import declaration_of
from switchgear.contract.docs import field_doc, member_docs
from switchgear.contract.enums import Enum
from switchgear.contract.message import Message, field


def said(cls):
    return [field_doc(cls, one) for one in declaration_of(cls).fields.values()]


def test_of_a_class_in_a_function_and_of_one_in_a_class():
    class Order(Message, package="docs.v1"):
        price: int = field(1)
        """What it costs."""

        class Line(Message):
            sku: str = field(1)
            """What it is."""

    assert said(Order) == ["What it costs."]
    assert said(Order.Line) == ["What it is."]


def test_a_module_is_parsed_once_whatever_is_asked_of_it(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(docs.inspect, "getsource", lambda one: read.append(one) or getsource(one))
    one = 'class M%d(Message, package="many.v1"):\n    x: int = field(1)\n    """No. %d."""\n'
    body = "".join(one % (number, number) for number in range(50))
    module = imported(tmp_path, monkeypatch, body)
    assert said(module.M0) == ["No. 0."]
    assert said(module.M49) == ["No. 49."]
    assert read == [module]


def test_of_two_classes_of_one_name_the_one_that_is_there_speaks(tmp_path, monkeypatch):
    one = 'class Kind(Enum):\n    NO = 0\n    """%s."""\n'
    module = imported(tmp_path, monkeypatch, one % "The first" + one % "The last")
    assert list(member_docs(module.Kind).values()) == ["The last."]


def test_without_a_source_nothing_is_said(tmp_path, monkeypatch):
    text = 'class M(Message, package="gone.v1"):\n    x: int = field(1)\n    """X."""\n'
    module = imported(tmp_path, monkeypatch, text, kept=False)
    assert said(module.M) == [""]


def imported(folder, monkeypatch, body, *, kept=True):
    name = f"docs_{time.monotonic_ns()}"
    file = folder / f"{name}.py"
    head = f"""
        from {Message.__module__} import Message, field
        from {Enum.__module__} import Enum
    """
    file.write_text(textwrap.dedent(head) + body)
    monkeypatch.syspath_prepend(str(folder))
    module = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, module)
    if not kept:
        file.unlink()
    return module
