"""Path templates: what they take apart, what a client writes and a server reads back."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.contract.template import Template, Unfit, normal, template_of

WORDS = st.sampled_from(["v1", "shelves", "a.b", "x-y_z~", "@me", "$now", "%25", "caf%C3%A9"])
INNER = st.lists(st.one_of(WORDS, st.just("*")), min_size=1, max_size=4)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    parts = draw(st.lists(st.one_of(WORDS, st.just("{}")), min_size=1, max_size=3))
    inners = [[*draw(INNER)] for one in parts if one == "{}"]
    if parts[-1] == "{}" and draw(st.booleans()):
        inners[-1].append("**")
    made, number = "", 0
    for one in parts:
        told = one
        if one == "{}":
            told = f"{{f{number}.g={'/'.join(inners[number])}}}"
            number += 1
        made += f"/{told}"
    return template_of(made + draw(st.sampled_from(["", ":go", ":go-on"])))


SEGMENT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(
    lambda one: one not in {".", ".."}
)


@st.composite
def filled(draw: st.DrawFn) -> tuple[Template, dict[str, str]]:
    template = draw(templates())
    values = {}
    for one in template.variables:
        alone = one.inner == ("*",)
        text = SEGMENT if alone else SEGMENT.filter(lambda x: "/" not in x)
        parts: list[str] = []
        for wanted in one.inner:
            if wanted == "**":
                parts += draw(st.lists(text, max_size=3))
            else:
                parts.append(draw(text) if wanted == "*" else unquote(wanted))
        values[one.name] = "/".join(parts)
    return template, values


@given(filled())
def test_a_server_reads_what_a_client_wrote(given: tuple[Template, dict[str, str]]) -> None:
    template, values = given
    path = template.write(values)
    assert re.fullmatch(r"(/[-_.~0-9A-Za-z%!$&'()+,;=@]*)+(:[a-z-]+)?", path)
    segments = template.match(normal(path).split("/")[1:])
    assert segments is not None
    # what was written as %252F is read as %2F: a slash in several segments stands as it is
    read = template.read(segments)
    assert read == values
    for one in template.variables:
        assert re.fullmatch(one.pattern[1:-1], values[one.name], re.DOTALL) or not one.is_long


@given(templates(), templates())
def test_what_covers_another_has_its_addresses(wide: Template, narrow: Template) -> None:
    assert wide.covers(wide)
    sample = [one if one not in {"*", "**"} else "any" for one in narrow.segments]
    if narrow.verb:
        sample[-1] += f":{narrow.verb}"
    if wide.covers(narrow):
        assert wide.match(sample) is not None


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("/a/{b}", "/a/{c}", True),
        ("/a/{b=*}", "/a/x", True),
        ("/{n=a/*}", "/a/{id}", True),
        ("/{n=**}", "/a/{id}/b", True),
        ("/a/{n=**}", "/a", True),
        ("/a/{n=*}", "/a/{n=**}", False),
        ("/a/x", "/a/{b}", False),
        ("/a/{b}", "/a/{b}:go", False),
        ("/a/{b}/c", "/a/{b}", False),
    ],
)
def test_covering(wide: str, narrow: str, covers: bool) -> None:  # noqa: FBT001
    assert template_of(wide).covers(template_of(narrow)) is covers


@pytest.mark.parametrize(
    ("path", "why"),
    [
        *((one, "does not contain a path") for one in ("", "/", "a", "/a/", "/a//b", "/{a}b")),
        *((one, "does not contain a path") for one in ("/{a=}", "/{1}", "/{a=b/{c}}", "/a b")),
        *((one, "neither plain text") for one in ("/a:b/c", "/a:b:c", "/{a=b:c}", "/%2", "/a?b")),
        *((one, "outside of a {parameter}") for one in ("/*", "/a/**")),
        ("/{a=**}/b", "not the last segment"),
        *((one, "the segment . or ..") for one in ("/a/../b", "/a/%2e/b", "/{a=%2E./*}")),
        ("/{a=b%2fc/*}", "the %2F in {a=b%2fc/*} would be a slash"),
        ("/{a}/{a}", "a parameter twice"),
        ("/a:", "'' is not a verb"),
    ],
)
def test_what_is_no_template(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        template_of(path)


@pytest.mark.parametrize(
    ("template", "value", "written"),
    [
        ("/v1/{n}", "a/b c", "/v1/a%2Fb%20c"),
        ("/v1/{n=**}", "a/b c", "/v1/a/b%20c"),
        ("/v1/{n=**}", "a%2Fb", "/v1/a%252Fb"),
        ("/v1/{n=**}", "", "/v1"),
        ("/v1/{n=a/**}:go", "a", "/v1/a:go"),
        ("/v1/{n}:go", "x:y", "/v1/x%3Ay:go"),
        ("/{n=**}", "", "/"),
    ],
)
def test_how_a_value_is_written(template: str, value: str, written: str) -> None:
    assert template_of(template).write({"n": value}) == written


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("/{n}", ""),
        ("/{n}", ".."),
        ("/{n=a/*}", "a/"),
        ("/{n=a/*}", "a/b/c"),
        ("/{n=a/*}", "b/c"),
        ("/{n=a/**}", "a/b/."),
        ("/{n=**}", "/a"),
        ("/{n=**}", "a//b"),
    ],
)
def test_what_a_path_cannot_carry(template: str, value: str) -> None:
    with pytest.raises(Unfit):
        template_of(template).write({"n": value})
