from switchgear.model.text import encodable, said_by


class Wordless(Exception):
    def __str__(self):
        raise KeyError("text")


def test_what_utf8_cannot_carry_is_replaced():
    assert encodable("caf\udce9.txt é") == "caf?.txt é"


def test_an_error_without_a_text_says_so():
    assert said_by(ValueError("caf\udce9.txt")) == "caf?.txt"
    assert said_by(Wordless()) == "(no text: KeyError)"
