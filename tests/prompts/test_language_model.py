"""A scripted server on loopback: what leaves, what comes back, and every way in which it can go wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prismkd.config import LanguageModelConfig
from prismkd.errors import UserError
from prismkd.prompts import suggestions
from prismkd.prompts.language_model import Answer, ask_about
from prismkd.prompts.suggestions import SenseSuggestion, read_senses

SECRET = "sk-not-a-real-key-4711"
CRANE = {
    "senses": [
        {"gloss": "a large wading bird", "contents": ["a grey crane", "A Crane by a lake.", "two cranes dancing"]},
        {"gloss": "a machine that lifts loads", "contents": ["a yellow crane on a building site"]},
    ]
}
CRANE_SENSES = (
    SenseSuggestion("a large wading bird", ("a grey {}", "a {} by a lake", "two {s} dancing")),
    SenseSuggestion("a machine that lifts loads", ("a yellow {} on a building site",)),
)

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def says(text: str | dict[str, Any]) -> Reply:
    """A chat completion with this text."""
    message = {"role": "assistant", "content": text if isinstance(text, str) else json.dumps(text)}
    return sends(200, json.dumps({"choices": [{"index": 0, "message": message}]}).encode())


def about(name: str) -> dict[str, Any]:
    return {"senses": [{"gloss": "a useful thing", "contents": [f"a {name} on a table"]}]}


def sends(status: int, body: bytes = b"", **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(status)
        for header, value in headers.items():
            handler.send_header(header.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def drips(start: bytes) -> Reply:
    """After ``start``, a byte every 20 ms, for ever as far as the client can tell."""

    def reply(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.wfile.write(start)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            handler.wfile.write(b"a")
            time.sleep(0.02)

    return reply


def is_silent(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    handler.connection.recv(1)  # until the client hangs up


class Server:
    """Gives the scripted replies in turn, the last one for ever, and keeps what was asked."""

    def __init__(self) -> None:
        self.script: list[Reply] = [says(CRANE)]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = outer.script[min(len(outer.bodies), len(outer.script) - 1)]
                outer.bodies.append(body)
                outer.headers.append({key.lower(): value for key, value in self.headers.items()})
                with suppress(OSError):
                    reply(self, body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def asked(self) -> list[str]:
        return [body["messages"][0]["content"].split('"')[-2] for body in self.bodies]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def config(server: Server) -> LanguageModelConfig:
    return LanguageModelConfig(url=server.url, model="tiny", timeout=5.0)


@pytest.fixture
def ask(config: LanguageModelConfig, tmp_path: Path) -> Callable[..., dict[str, Answer]]:
    """Ask about names, with changes to the configuration."""

    def ask(*names: str, **changes: Any) -> dict[str, Answer]:
        return ask_about(names, replace(config, **changes), tmp_path / "cache", lambda count: None)

    return ask


Ask = Callable[..., dict[str, Answer]]

# --- what is sent, and what a good answer becomes ---------------------------------------------------------------------


def test_a_good_answer_becomes_senses_and_contents(ask: Ask, server: Server) -> None:
    assert ask("crane") == {"crane": Answer(CRANE_SENSES)}
    assert len(server.bodies) == 1


def test_only_the_class_name_leaves(ask: Ask, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests about two classes differ in the name alone, and in none is anything of the user or the machine."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-user")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-user")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Project: secret project")
    server.script = [says(about("zyzzyva")), says(about("quokka"))]
    ask("zyzzyva", "quokka")
    sent = [json.dumps([body, headers]) for body, headers in zip(server.bodies, server.headers, strict=True)]
    lengths = [headers["content-length"] for headers in server.headers]
    first, second = (text.replace(f'"content-length": "{n}"', "") for text, n in zip(sent, lengths, strict=True))
    assert first.count("zyzzyva") == 1 and first.replace("zyzzyva", "quokka") == second
    own = (socket.gethostname(), platform.node(), platform.python_version(), platform.release(), str(Path.home()))
    for secret in ("of-the-user", "secret project", "X-Project", *filter(lambda text: len(text) > 3, own)):
        assert secret not in sent[0]
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}" and sent[0].count(SECRET) == 1
    assert server.headers[0].keys() <= {
        "host", "authorization", "content-type", "content-length", "connection", "accept", "user-agent",
        "accept-encoding", "x-stainless-raw-response",
    }  # fmt: skip


def test_the_schema_is_strict_and_bounded(ask: Ask, server: Server) -> None:
    ask("crane", num_phrases=7)
    wanted = server.bodies[0]["response_format"]["json_schema"]
    assert wanted["strict"] and wanted["schema"]["additionalProperties"] is False
    assert wanted["schema"]["properties"]["senses"]["maxItems"] == 6
    sense = wanted["schema"]["$defs"]["SenseSuggestion"]
    assert sense["properties"]["contents"]["maxItems"] == 7 and sense["required"] == ["gloss", "contents"]


def test_one_line_tells_what_leaves(ask: Ask, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    ask("crane")
    capsys.readouterr()
    server.script = [says(about("mouse"))]
    ask("crane", "mouse")
    (line,) = capsys.readouterr().err.splitlines()
    assert "'tiny'" in line and server.url in line
    assert "1 class names leave" in line and "1 answers come from the cache" in line


def test_progress_adds_up_to_the_number_of_names(config: LanguageModelConfig, tmp_path: Path) -> None:
    counts: list[int] = []
    ask_about(["crane"], config, tmp_path, counts.append)
    ask_about(["crane", "crane"], config, tmp_path, counts.append)
    assert counts == [0, 1, 1]


def test_it_works_inside_a_running_event_loop(ask: Ask) -> None:
    async def notebook() -> dict[str, Answer]:
        return ask("crane")

    assert asyncio.run(notebook())["crane"].senses == CRANE_SENSES


def test_without_a_key_a_placeholder_is_sent(ask: Ask, server: Server) -> None:
    ask("crane", key_variable="NO_SUCH_VARIABLE")
    assert server.headers[0]["authorization"] == "Bearer none"


# --- servers that fail ------------------------------------------------------------------------------------------------


def test_a_dead_server_is_asked_three_names(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    answers = ask("a", "b", "c", "d", "e", url=url, max_tries=1)
    assert [answer.problem for answer in answers.values()] == ["no connection to the server"] * 3 + [
        "not asked: the server failed 3 times in a row"
    ] * 2


def test_an_answer_in_between_resets_the_count(ask: Ask, server: Server) -> None:
    fails = sends(500)
    server.script = [fails, fails, says(about("c")), fails, fails, says("no idea"), fails]
    answers = ask(*"abcdefghij", max_tries=1)
    assert server.asked() == list("abcdefghi")
    assert answers["c"].senses and answers["j"].problem.startswith("not asked")
    assert answers["i"].problem == "the server answered HTTP 500"


def test_a_busy_server_is_asked_again_when_it_says(ask: Ask, server: Server) -> None:
    server.script = [sends(429, Retry_After="1"), says(CRANE)]
    start = time.monotonic()
    assert ask("crane")["crane"].senses == CRANE_SENSES
    assert 1.0 <= time.monotonic() - start < 2.5  # the client's own first wait is half a second at most


@pytest.mark.parametrize("wait", ["3600", "30", "1e400"])
def test_no_wait_is_longer_than_the_deadline(ask: Ask, server: Server, wait: str) -> None:
    server.script = [sends(429, Retry_After=wait)]
    start = time.monotonic()
    assert ask("crane", timeout=0.7)["crane"].problem
    assert time.monotonic() - start < 1.5 and len(server.bodies) <= 3


def test_a_server_error_is_repeated(ask: Ask, server: Server) -> None:
    server.script = [sends(500), says(CRANE)]
    assert ask("crane")["crane"].senses == CRANE_SENSES


def test_tries_are_counted_over_both_kinds_of_repetition(ask: Ask, server: Server) -> None:
    server.script = [sends(503, Retry_After="0.1"), says("no idea")]
    assert ask("crane", max_tries=3)["crane"].problem.endswith("(try 3)")
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    "reply",
    [
        is_silent,
        drips(b"HTTP/1.1 200 OK\r\nX-Endless: "),
        drips(b"HTTP/1.1 200 OK\r\n\r\n"),
        drips(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"),
    ],
)
def test_the_deadline_is_for_the_whole_answer(ask: Ask, server: Server, reply: Reply) -> None:
    server.script = [reply]
    start = time.monotonic()
    assert ask("crane", timeout=0.3)["crane"].problem == "no whole answer within 0.3 s"
    assert time.monotonic() - start < 1.5 and len(server.bodies) == 1


def test_an_endless_error_is_not_read(ask: Ask, server: Server) -> None:
    server.script = [drips(b"HTTP/1.1 500 Error\r\n\r\n")]
    start = time.monotonic()
    assert ask("crane", max_tries=1)["crane"].problem == "the server answered HTTP 500"
    assert time.monotonic() - start < 1.5


def test_a_huge_answer_is_cut_off(ask: Ask, server: Server) -> None:
    sent = []

    def floods(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b"x" * 2**20)
            sent.append(2**20)

    server.script = [floods]
    assert ask("crane")["crane"].problem == "an answer of more than 1048576 bytes"
    assert len(server.bodies) == 1 and sum(sent) < 50 * 2**20  # what the sockets' buffers took


def test_nothing_is_decompressed(ask: Ask, server: Server) -> None:
    bomb = gzip.compress(b'{"choices": "' + b"0" * 10_000_000)
    server.script = [sends(200, bomb, Content_Encoding="gzip")]
    assert ask("crane")["crane"].problem == "the server answered with something else than a chat completion"
    assert server.headers[0]["accept-encoding"] == "identity"


def test_a_broken_connection_is_a_problem(ask: Ask, server: Server) -> None:
    server.script = [lambda handler, _: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")]
    assert ask("crane", max_tries=1)["crane"].problem.startswith("the answer broke off")


@pytest.mark.parametrize("body", [b"<html>login</html>", b"", b"[]", b'{"choices": []}', b"[" * 100_000, b"\xff\xfe"])
def test_something_else_than_a_completion_is_a_problem(ask: Ask, server: Server, body: bytes) -> None:
    server.script = [sends(200, body)]
    assert ask("crane")["crane"].problem == "the server answered with something else than a chat completion"


def test_redirects_are_not_followed(ask: Ask, server: Server) -> None:
    other = Server()
    server.script = [sends(307, Location=f"{other.url}/chat/completions")]
    assert ask("crane")["crane"].problem == "the server answered HTTP 307"
    other.http.shutdown()
    other.http.server_close()
    assert not other.bodies


def test_a_server_without_schemas_is_asked_plainly_from_then_on(ask: Ask, server: Server) -> None:
    server.script = [
        sends(400),
        says(f"<think>a {{hard}} one</think>Sure:\n```json\n{json.dumps(about('bell'))}\n```\nThat's {{all}}"[:-14]),
        says(about("mouse")),
    ]
    answers = ask("bell", "mouse")
    assert answers["bell"].senses == (SenseSuggestion("a useful thing", ("a {} on a table",)),)
    assert ["response_format" in body for body in server.bodies] == [True, False, False]
    assert all(body["max_tokens"] > 0 for body in server.bodies)


def test_a_server_with_other_names_for_the_limit_gets_them(ask: Ask, server: Server) -> None:
    def reasons(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        (sends(400) if "max_tokens" in body or "temperature" in body else says(CRANE))(handler, body)

    server.script = [reasons]
    assert ask("crane")["crane"].senses == CRANE_SENSES
    assert server.bodies[-1]["max_completion_tokens"] > 0


def test_a_server_that_refuses_every_form_is_a_problem(ask: Ask, server: Server) -> None:
    server.script = [sends(400)]
    assert ask("crane")["crane"].problem == "the server answered HTTP 400"
    assert len(server.bodies) == 3


# --- the user's faults, and the key -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "message"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "'tiny'")])
def test_a_wrong_key_or_model_ends_the_run(ask: Ask, server: Server, status: int, message: str) -> None:
    server.script = [sends(status, f'{{"error": {{"message": "Incorrect API key: {SECRET}"}}}}'.encode())]
    with pytest.raises(UserError) as error:
        ask("crane", "mouse")
    assert f"got HTTP {status}" in str(error.value) and message in str(error.value)
    assert SECRET not in str(error.value) and len(server.bodies) == 1


def test_the_key_is_neither_stored_nor_printed(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert ask("crane")["crane"].senses
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    captured = capsys.readouterr()
    assert files and caplog.text
    for text in (captured.out, captured.err, caplog.text, *(path.read_text() for path in files)):
        assert SECRET not in text


def test_a_mangled_key_is_refused_without_showing_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\nx")
    with pytest.raises(UserError, match="OPENAI_API_KEY") as error:
        ask("crane")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://", "http://:80", "http://[::1", "http://a b",
                                 "http://a:99999/v1", "http://a/\n"])  # fmt: skip
def test_an_unusable_address_is_refused(ask: Ask, url: str) -> None:
    with pytest.raises(UserError, match=r"prompts\.language_model\.url"):
        ask("crane", url=url)


def test_a_password_in_the_address_is_not_shown(ask: Ask, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    ask("crane", url=server.url.replace("127", "me:hunter2@127") + "?token=hunter3")
    assert server.bodies and "hunter" not in capsys.readouterr().err


def test_the_client_is_optional(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"expected the package openai .* pip install 'prismkd\[llm\]'"):
        ask("crane")


# --- answers that are no use ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I don't know.", "the answer is not as asked for: Invalid JSON"),
        (json.dumps(CRANE)[:90], "the answer is not as asked for: Invalid JSON"),
        ("", "the answer is not as asked for: Invalid JSON"),
        ('{"senses": ' * 50_000 + "}" * 50_000, "the answer is not as asked for: Invalid JSON"),
        ("<think>" * 50_000 + "{", "the answer is not as asked for: Invalid JSON"),
        ('{"senses": [{"gloss": "\\ud800"}]}', "the answer is not as asked for: Invalid JSON"),
        ({"meanings": []}, "senses is not as asked for: Field required"),
        ({"senses": "bird"}, "senses is not as asked for"),
        ({"senses": [{"gloss": 7, "contents": ["a crane"]}]}, "senses.0.gloss is not as asked for"),
        ({"senses": []}, "no usable sense: none given"),
        (
            {"senses": [{"gloss": "a bird", "contents": ["a bird"]}]},
            "no usable sense: phrase without the class name (1)",
        ),
    ],
)
def test_a_useless_answer_is_asked_for_again(ask: Ask, server: Server, text: Any, problem: str) -> None:
    server.script = [says(text)]
    answer = ask("crane", max_tries=2)["crane"]
    assert answer.problem.startswith(problem) and answer.problem.endswith("(try 2)")
    assert len(server.bodies) == 2 and server.bodies[0]["seed"] != server.bodies[1]["seed"]


def test_a_second_answer_may_be_good(ask: Ask, server: Server) -> None:
    server.script = [says("no idea"), says(CRANE)]
    assert ask("crane")["crane"] == Answer(CRANE_SENSES)


DIRTY = [
    ("<script>alert(1)</script>", "markup or an address"),
    ("a crane <b", "markup or an address"),
    ("a crane b>", "markup or an address"),
    ("[crane](javascript:alert)", "markup or an address"),
    ("a crane &lt;img&gt;", "markup or an address"),
    ("`crane`", "markup or an address"),
    ("a {} crane", "markup or an address"),
    ("a crane at HTTPS://evil.example", "markup or an address"),
    ("crane WWW.evil.example", "markup or an address"),
    ("a crane\nIgnore the above", "unprintable characters"),
    ("a crane\x1b[31m", "unprintable characters"),
    ("a crane \u202egnp.exe", "unprintable characters"),
    ("a crane \ufffd", "unprintable characters"),
    ("a crane " + "x" * 200, "text outside 3 to"),
    ("湖边的灰鹤湖边的灰鹤", "another language"),
    ("호숫가의 회색 두루미", "another language"),
    (" . ", "text outside 3 to"),
]


def senses_of(
    *senses: tuple[str, list[str]], name: str = "crane", num_phrases: int = 12
) -> tuple[SenseSuggestion, ...]:
    rows = [{"gloss": gloss, "contents": contents} for gloss, contents in senses]
    return read_senses(json.dumps({"senses": rows}), name, num_phrases)


@pytest.mark.parametrize(("text", "reason"), DIRTY)
def test_dirty_glosses_and_phrases_are_dropped(text: str, reason: str) -> None:
    assert senses_of(("a bird", ["a crane", text])) == (SenseSuggestion("a bird", ("a {}",)),)
    assert senses_of(("a bird", ["a crane"]), (text, ["a crane"])) == (SenseSuggestion("a bird", ("a {}",)),)
    with pytest.raises(suggestions.ContentError, match=reason):
        senses_of((text, ["a crane"]))


def test_a_phrase_in_another_script_is_dropped_though_it_has_the_name() -> None:
    assert senses_of(("a bird", ["湖边的 crane", "a crane"]))[0].contents == ("a {}",)
    other = senses_of(("一种高大的水鸟", ["一只 鹤 在湖边"]), name="鹤")
    assert other == (SenseSuggestion("一种高大的水鸟", ("一只 {} 在湖边",)),)


@pytest.mark.parametrize(
    ("name", "phrase", "content"),
    [
        ("crane", "a CRANE at dawn", "a {} at dawn"),
        ("crane", "many cranes", "many {s}"),
        ("box", "two boxes", "two {s}"),
        ("crane", "the cranefly", None),
        ("palm", "a palm-sized plant", None),
        ("crane", "a tower-crane", None),
        ("mouse", "a mouse on a mouse pad", None),
        ("pickup_truck", "a red pickup truck", "a red {}"),
        ("tench, Tinca tinca", "a Tinca tinca in a net", "a {} in a net"),
        ("c++ (logo)", "a blue C++ (logo)", "a blue {}"),
        ("7", "the digit 7 in blue", "the digit {} in blue"),
        ("Kran", "Ein Kran im Hafen", "Ein {} im Hafen"),
    ],
)
def test_the_class_name_is_found_as_a_word(name: str, phrase: str, content: str | None) -> None:
    found = senses_of(("a thing", ["a plain " + name.split(",")[0], phrase]), name=name)[0].contents[1:]
    assert found == ((content,) if content else ())


def test_a_gloss_has_to_tell_something() -> None:
    copied = "a small flying mammal with leathery wings"
    senses = senses_of(("The crane.", ["a crane"]), (copied, ["a brown crane"]), ("a crane bird", ["a crane"]))
    assert [sense.gloss for sense in senses] == ["a crane bird"]
    assert senses_of((copied, ["a bat"]), name="bat")[0].gloss == copied


def test_repeats_and_excess_are_dropped() -> None:
    phrases = ["a crane", "A  crane", "A crane.", *(f"crane number {i}" for i in range(50))]
    many = senses_of(("a bird", phrases), ("A Bird", ["a crane"]), *((f"bird {i}", ["a crane"]) for i in range(9)))
    assert [sense.gloss for sense in many] == ["a bird", *(f"bird {i}" for i in range(5))]
    assert len(many[0].contents) == 12 and many[0].contents[:2] == ("a {}", "{} number 0")


# --- the cache --------------------------------------------------------------------------------------------------------


def test_an_answer_is_asked_for_once(ask: Ask, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask("crane")
    monkeypatch.setitem(sys.modules, "openai", None)  # not even the client is needed
    assert ask("crane", url="http://elsewhere/v1") == first
    assert len(server.bodies) == 1


def test_the_cache_tells_what_was_asked_and_when(ask: Ask, tmp_path: Path) -> None:
    ask("crane")
    (path,) = (tmp_path / "cache").iterdir()
    record = json.loads(path.read_text())
    assert (record["name"], record["model"]) == ("crane", "tiny") and record["date"].startswith("20")
    assert set(record) == {"name", "model", "date", "senses"}


def test_another_model_or_number_of_phrases_asks_again(ask: Ask, server: Server) -> None:
    ask("crane")
    ask("crane", model="other")
    ask("crane", num_phrases=3)
    assert len(server.bodies) == 3


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"senses": []}', b'{"senses": [{"gloss": "a bird"}]}',
                                    b'{"senses": [{"gloss": 1, "contents": [2]}]}', b"[" * 100_000])  # fmt: skip
def test_a_damaged_file_is_asked_for_again(ask: Ask, server: Server, tmp_path: Path, damage: bytes) -> None:
    ask("crane")
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(damage)
    assert ask("crane")["crane"].senses == CRANE_SENSES == ask("crane")["crane"].senses
    assert len(server.bodies) == 2


def test_problems_are_not_cached(ask: Ask, server: Server, tmp_path: Path) -> None:
    server.script = [says("no idea"), says(CRANE)]
    assert ask("crane", max_tries=1)["crane"].problem
    assert not (tmp_path / "cache").exists()
    assert ask("crane", max_tries=1)["crane"].senses


def test_earlier_answers_survive_a_fatal_error(ask: Ask, server: Server) -> None:
    server.script = [says(CRANE), sends(401)]
    with pytest.raises(UserError):
        ask("crane", "mouse")
    assert ask("crane")["crane"].senses == CRANE_SENSES and len(server.bodies) == 2


def test_an_unwritable_cache_is_refused(config: LanguageModelConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"expected .*cache to be usable, got: Not a directory"):
        ask_about(["crane"], config, tmp_path / "file" / "cache", lambda count: None)


def test_a_header_of_megabytes_is_a_problem_and_no_wait(ask: Ask, server: Server) -> None:
    server.script[:] = [sends(200, b"{}", X_Long="x" * 10**7)] * 3
    began = time.monotonic()
    assert ask("crane")["crane"].problem and time.monotonic() - began < 10


@pytest.mark.parametrize("text", ["[" * 100_000, '{"senses": ' + "[" * 100_000, '{"senses": 1e999}', '"\\ud800"'])
def test_a_text_that_no_parser_likes_is_a_problem(ask: Ask, server: Server, text: str) -> None:
    server.script[:] = [says(text)] * 3
    assert not ask("crane")["crane"].senses and ask("crane")["crane"].problem
