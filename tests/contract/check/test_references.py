"""A `$ref` leads as far as it is allowed, and no further."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAD = "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths:\n  /a:\n    put:\n"
BODY = "      requestBody:\n        content:\n          application/json:\n"


def document(schema: str) -> str:
    rest = "      responses: {'200': {description: a}}\n"
    return f"{HEAD}{BODY}            schema: {schema}\n{rest}"


def order(kind: str) -> str:
    return f"Order:\n  type: object\n  properties:\n    size: {{type: {kind}}}\n"


@pytest.fixture
def lay(write):
    """Write old and new, whose Order is in a file of its own."""

    def lay(ref: str, file: str, base: str = "api") -> None:
        for version, kind in (("old", "integer"), ("new", "string")):
            write(version, **{f"{base}__openapi.yaml": document(f"{{$ref: '{ref}'}}")})
            write(version, **{file: order(kind)})

    return lay


ARGUMENTS = ("new/api/openapi.yaml", "--against", "old/api/openapi.yaml")


def test_a_file_below(lay, run):
    lay("parts/order.yaml#/Order", "api__parts__order.yaml")
    _, (one,), err = run(*ARGUMENTS)
    assert (one["rule"], one["path"], one["line"]) == (
        "REQUEST_SAME_TYPE",
        "new/api/parts/order.yaml",
        4,
    )
    assert one["witness"] == '{"size": 1} was valid and is refused now'
    assert err == ""


def test_a_file_elsewhere_is_read_if_it_is_allowed(lay, run):
    lay("../common/order.yaml#/Order", "common__order.yaml")
    code, _, err = run(*ARGUMENTS)
    assert code == 2
    assert "leads out of the document" in err
    assert "--allow-refs" in err
    allowed = ("--allow-refs", "new/common", "--allow-refs", "old/common")
    _, (one,), _ = run(*ARGUMENTS, *allowed)
    assert (one["rule"], one["path"]) == ("REQUEST_SAME_TYPE", "new/common/order.yaml")


def test_a_link_does_not_lead_out(lay, run, tmp_path):
    lay("parts/order.yaml#/Order", "api__parts__order.yaml")
    outside = tmp_path / "outside.yaml"
    outside.write_text(order("boolean"))
    path = tmp_path / "new/api/parts/order.yaml"
    path.unlink()
    path.symlink_to(outside)
    assert run(*ARGUMENTS)[0] == 2


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("parts/none.yaml", "No such file"),
        ("/etc/passwd", "leads out of the document"),
        ("secret.txt", "neither JSON nor YAML"),
        ("#Nothing", "leads to nothing"),
    ],
)
def test_what_is_refused(lay, run, ref, told):
    lay(ref, "api__other.yaml")
    code, _, err = run(*ARGUMENTS)
    assert code == 2
    assert told in err


def test_files_that_refer_to_each_other(write, run):
    for version, kind in (("old", "integer"), ("new", "string")):
        write(version, **{"api__openapi.yaml": document("{allOf: [{$ref: 'a.yaml#/A'}]}")})
        write(version, **{"api__a.yaml": "A:\n  properties:\n    b: {$ref: 'b/b.yaml#B'}\n"})
        write(
            version,
            **{
                "api__b__b.yaml": "x:\n  $anchor: B\n  properties:\n    a: {$ref: '../a.yaml#/A'}\n"
                f"    n: {{type: {kind}}}\n"
            },
        )
    _, (one,), _ = run(*ARGUMENTS)
    assert (one["path"], one["subject"]) == ("new/api/b/b.yaml", "PUT /a request body.b.n")


def test_of_a_git_version_the_files_are_those_of_that_version(write, run, tmp_path):
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    for kind in ("integer", "string"):
        text = document("{$ref: '../common/order.yaml#/Order'}")
        write("repo", **{"api__openapi.yaml": text, "common__order.yaml": order(kind)})
        if kind == "integer":
            git("add", "-A")
            git("commit", "-qm", "one")
    arguments = ("repo/api/openapi.yaml", "--against", "git:HEAD")
    assert run(*arguments)[0] == 2
    _, (one,), _ = run(*arguments, "--allow-refs", "repo/common")
    assert one["rule"] == "REQUEST_SAME_TYPE"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a folder on loopback; `/moved` leads elsewhere."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def do_GET(self) -> None:
            if self.path == "/v1/moved.yaml":
                self.send_response(302)
                self.send_header("Location", "/v2/order.yaml")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_is_fetched_if_what_it_begins_with_is_allowed(write, run, address):
    write("served", **{"v1__order.yaml": "Order: {$ref: 'line.yaml#/Line'}\n"})
    write("served", **{"v1__line.yaml": order("string").replace("Order", "Line")})
    write("old", **{"a.yaml": document("{properties: {size: {type: integer}}}")})
    arguments = ("new/a.yaml", "--against", "old/a.yaml", "--allow-refs", f"{address}/v1/")

    def told(name: str) -> tuple[int, list, str]:
        write("new", **{"a.yaml": document(f"{{$ref: '{address}/{name}#/Order'}}")})
        return run(*arguments)

    _, findings, _ = told("v1/order.yaml")
    assert ("REQUEST_SAME_TYPE", f"{address}/v1/line.yaml") in {
        (one["rule"], one["path"]) for one in findings
    }
    for name, why in (
        ("v2/order.yaml", "leads out of the document"),
        ("v1/../v2/order.yaml", "leads out of the document"),
        ("v1/%2e%2e/v2/order.yaml", "leads out of the document"),
        ("v1/moved.yaml", "cannot be fetched"),
        ("v1/none.yaml", "cannot be fetched"),
    ):
        code, _, err = told(name)
        assert (code, why in err) == (2, True), (name, err)


def test_no_address_without_encryption(write, run):
    for name in ("old", "new"):
        write(name, **{"a.yaml": document(f"{{$ref: 'http://example.org/{name}.yaml'}}")})
    allowed = ("--allow-refs", "http://example.org/")
    code, _, err = run("new/a.yaml", "--against", "old/a.yaml", *allowed)
    assert code == 2
    assert "without encryption" in err
