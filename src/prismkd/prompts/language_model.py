"""Asking a language model for the senses of class names, and for what varies inside each sense.

Any OpenAI-compatible server will do. What leaves the machine is one fixed text per class with the class name in it, and
the key. A name without an answer keeps the built-in contents, so no fault of the server stops a run. Answers are
bounded in time and size, and cached if ``suggestions.py`` finds them usable.

The server is not trusted: it may be slow, endless, wrong, or quote the key. Hence the bounds, the header list, and the
care about what an error shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

from prismkd.config import LanguageModelConfig
from prismkd.errors import UserError
from prismkd.files import read_document, write
from prismkd.prompts.suggestions import VERSION, ContentError, SenseSuggestion, question, read_senses, reply_schema

MAX_ANSWER = 2**20  # bytes; a usable answer has a few thousand
MAX_FAILURES = 3  # names in a row without an answer, after which the server counts as dead
KEPT_HEADERS = {"host", "authorization", "content-type", "content-length", "connection", "accept"}
# The client marks requests for raw responses with this header, and reads it again later; it says nothing of the user
CLIENT_HEADER = "x-stainless-raw-response"


@dataclass(frozen=True)
class Answer:
    """The senses of a class name, or the problem why there are none.

    Attributes:
        senses: usable ones; empty where there is a problem.
        problem: in words for the user; empty where there are senses.
    """

    senses: tuple[SenseSuggestion, ...] = ()
    problem: str = ""


class _ServerError(Exception):
    """The server gave no answer: it failed, and not the model."""


def ask_about(
    names: Sequence[str], config: LanguageModelConfig, cache: Path, progress: Callable[[int], None]
) -> dict[str, Answer]:
    """Ask about each class name that the cache doesn't hold, one after the other.

    It first prints to stderr what leaves the machine, and to whom.

    Args:
        names: class names.
        config: the server, and the bounds. A name costs at most ``max_tries`` requests, and a few more once while
            it is found out which form of request the server takes.
        cache: a folder with one JSON file per answer. The server's address is not part of an answer's identity: the
            same model elsewhere would answer the same.
        progress: called with the number of names just finished.

    Returns:
        An answer for every name.

    Raises:
        UserError: no usable address, no ``openai`` package, a wrong key, an unknown model, or an unwritable cache.
            Other faults of the server become the ``problem`` of the names they hit.
    """
    address = _shown_address(config.url)
    files = {name: cache / f"{_digest(name, config)}.json" for name in names}
    # Only usable answers are stored, so that another run, perhaps with a repaired server, asks again about the others
    answers = {name: Answer(senses) for name, path in files.items() if (senses := _load(path))}
    missing = [name for name in files if name not in answers]
    print(
        f"language model {config.model!r} at {address}: {len(missing)} class names leave this machine, nothing else; "
        f"{len(answers)} answers come from the cache",
        file=sys.stderr,
        flush=True,
    )
    progress(len(answers))
    with closing(_ask_server(missing, config, address)) as new_answers:
        for name, answer in new_answers:
            answers[name] = answer
            if answer.senses:
                _store(files[name], name, config.model, answer.senses)
            progress(1)
    return {name: answers[name] for name in files}


def _ask_server(
    names: Sequence[str], config: LanguageModelConfig, address: str
) -> Generator[tuple[str, Answer], None, None]:
    """Each name with its answer, as it comes.

    Once the server has failed on ``MAX_FAILURES`` names in a row, the rest isn't asked about: 1,000 names times the
    timeout would be hours. An unusable answer is no failure of the server.
    """
    if not names:
        return  # and needs no openai package
    failures = 0
    with _connected(config, address) as server:
        for name in names:
            if failures == MAX_FAILURES:
                yield name, Answer(problem=f"not asked: the server failed {MAX_FAILURES} times in a row")
                continue
            try:
                answer, failures = Answer(server.ask(name)), 0
            except ContentError as error:
                answer, failures = Answer(problem=str(error)), 0
            except _ServerError as error:
                answer, failures = Answer(problem=str(error)), failures + 1
            yield name, answer


@contextmanager
def _connected(config: LanguageModelConfig, address: str) -> Iterator[_Server]:
    """A client on an event loop of its own thread.

    Asynchronous, since only there a deadline can cut off whatever is under way: a synchronous client's timeout is per
    read, and a server that sends a byte a second never reaches it.
    """
    try:
        import openai
        from anyio.from_thread import start_blocking_portal
    except ImportError:
        raise UserError(
            "expected the package openai for prompts.language_model, got none; pip install 'prismkd[llm]'"
        ) from None
    # No redirects: they would hand the class name, and perhaps the key, to an address that the user didn't name
    hooks: Any = {"request": [_strip_headers], "response": [_drop_error_body]}
    http = openai.DefaultAsyncHttpxClient(follow_redirects=False, event_hooks=hooks)
    # timeout=None since _complete sets the deadline of a whole answer
    client = openai.AsyncOpenAI(api_key=_key(config), base_url=config.url, timeout=None, http_client=http)
    with start_blocking_portal() as portal:
        try:
            yield _Server(config, address, client, portal)
        finally:
            portal.call(client.close)


async def _strip_headers(request: Any) -> None:
    """Send only what HTTP needs.

    By itself the client also sends the operating system, Python's version, and the organization and project that the
    environment names.
    """
    for header in set(request.headers.keys()) - KEPT_HEADERS - {CLIENT_HEADER}:
        del request.headers[header]
    request.headers.update({"user-agent": "prismkd", "accept-encoding": "identity"})


async def _drop_error_body(response: Any) -> None:
    """Leave the body of an error unread: it may be endless, and it may quote the key."""
    if not response.is_success:
        await response.aclose()


@dataclass
class _Server:
    """The connection, and what has been learned of the server.

    Attributes:
        config: the server and the bounds.
        address: as it may be shown.
        client: openai's asynchronous client.
        portal: anyio's, which runs a coroutine on the event loop's thread.
        form: index into ``_request_forms`` of the form that the server takes.
        settled: whether a request in that form has succeeded. Later refusals are then the name's and not the form's.
    """

    config: LanguageModelConfig
    address: str
    client: Any
    portal: Any
    form: int = 0
    settled: bool = False

    def ask(self, name: str) -> tuple[SenseSuggestion, ...]:
        """The senses of a name. While the answer is unusable it is asked for again, with another seed.

        The client repeats requests by itself when the server is busy or the connection fails, and waits as long as the
        server says (``Retry-After``, up to a minute or two by its version); the deadline of an answer ends all that.

        Raises:
            ContentError: no usable answer in ``max_tries`` requests.
            _ServerError: the server failed.
            UserError: a wrong key or an unknown model.
        """
        tries = 0  # requests so far, the client's own repetitions included
        while True:
            body, num_requests = self._request(name, seed=tries, max_retries=self.config.max_tries - tries - 1)
            tries += num_requests
            try:
                return read_senses(_message(body), name, self.config.num_phrases)
            except ContentError as error:
                if tries >= self.config.max_tries:
                    raise ContentError(f"{error} (try {tries})") from None

    def _request(self, name: str, seed: int, max_retries: int) -> tuple[bytes, int]:
        """The body of one answer and the number of requests it took, by the first form that the server accepts."""
        import openai

        client = self.client.with_options(max_retries=max_retries)
        for form, request in list(enumerate(_request_forms(name, seed, self.config)))[self.form :]:
            try:
                result = self.portal.call(_complete, client, request, self.config.timeout)
            except openai.APIStatusError as error:
                status = error.status_code
                # 400 and 422 say that the request isn't understood: the next form is simpler
                if status not in (400, 422):
                    raise self._refusal(status) from None
            except openai.APIConnectionError:
                raise _ServerError("no connection to the server") from None
            except TimeoutError:
                raise _ServerError(f"no whole answer within {self.config.timeout:g} s") from None
            else:
                if not self.settled:
                    self.form, self.settled = form, True
                return result
        raise self._refusal(status)

    def _refusal(self, status: int) -> Exception:
        """The error for an HTTP status: ``UserError`` where the user must act, which ends the run; else a fault."""
        if status in (401, 403):
            variable = self.config.key_variable
            return UserError(f"expected a key for {self.address} in {variable}, got HTTP {status}; set {variable}")
        if status == 404:
            return UserError(
                f"expected the model {self.config.model!r} at {self.address}, got HTTP 404; "
                "check prompts.language_model.url (most end in /v1) and prompts.language_model.model"
            )
        return _ServerError(f"the server answered HTTP {status}")


async def _complete(client: Any, request: dict[str, Any], timeout: float) -> tuple[bytes, int]:
    """The body of one answer within ``timeout`` seconds, waits and repetitions included, and the number of requests."""
    import anyio

    with anyio.fail_after(timeout):
        async with client.chat.completions.with_streaming_response.create(**request) as response:
            return await _read(response.http_response), 1 + response.retries_taken


async def _read(response: Any) -> bytes:
    """The body as it comes, up to ``MAX_ANSWER`` bytes, and never decompressed: a megabyte may unpack to gigabytes."""
    body = b""
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_ANSWER:
                break
    except Exception as error:  # httpx's or httpx2's, by the version of openai; neither is a dependency of ours
        raise _ServerError(f"the answer broke off ({type(error).__name__})") from None
    if len(body) > MAX_ANSWER:
        raise _ServerError(f"an answer of more than {MAX_ANSWER} bytes")
    return body


def _request_forms(name: str, seed: int, config: LanguageModelConfig) -> list[dict[str, Any]]:
    """The request in three forms, the strictest first, since servers differ in what they refuse.

    With a JSON schema, which makes even a small model's answer parse; without it; and as OpenAI's reasoning models want
    it, which know neither seed, temperature nor ``max_tokens``.
    """
    max_tokens = 2048 + 150 * config.num_phrases  # enough for some thought, and for six senses' phrases of 25 tokens
    bare = {"model": config.model, "messages": [{"role": "user", "content": question(name, config.num_phrases)}]}
    usual = {**bare, "max_tokens": max_tokens, "seed": seed, "temperature": 0.8}
    schema = {"name": "senses", "strict": True, "schema": reply_schema(config.num_phrases)}
    strict = {**usual, "response_format": {"type": "json_schema", "json_schema": schema}}
    return [strict, usual, {**bare, "max_completion_tokens": max_tokens}]


def _message(body: bytes) -> str:
    """The model's text in the body of a chat completion; empty where the model returned none."""
    from pydantic import TypeAdapter

    try:
        # Not json.loads, which runs out of stack on a body of brackets
        text = TypeAdapter(Any).validate_json(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise _ServerError("the server answered with something else than a chat completion") from None
    return text if isinstance(text, str) else ""


def _shown_address(url: str) -> str:
    """The part of a URL that can be shown: without user, password and query, which may be secret.

    Raises:
        UserError: no http(s) URL; the error doesn't show it.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise UserError(
            "expected an address such as http://localhost:8080/v1 in prompts.language_model.url, got something else; "
            "correct it"
        )
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _key(config: LanguageModelConfig) -> str:
    """The key from the environment; a placeholder for servers without keys, as the client insists on one."""
    key = os.environ.get(config.key_variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"expected a key of printable ASCII in {config.key_variable}, got other characters; correct it")
    return key or "none"


def _digest(name: str, config: LanguageModelConfig) -> str:
    """The name of an answer's cache file, from all that determines the answer: rules, model, and the text sent."""
    identity = json.dumps([VERSION, config.model, name, question(name, config.num_phrases)])
    return hashlib.sha256(identity.encode()).hexdigest()


class StoredAnswer(TypedDict):
    """A file of the cache: a usable answer. It also has name, model and date, by which a user tells the files apart."""

    senses: tuple[SenseSuggestion, ...]


def _load(path: Path) -> tuple[SenseSuggestion, ...]:
    """The senses in a cache file; none where it is missing or damaged, so that it is asked for again."""
    try:
        return read_document(path, StoredAnswer)["senses"]
    except (FileNotFoundError, UserError):
        return ()


def _store(path: Path, name: str, model: str, senses: Sequence[SenseSuggestion]) -> None:
    """Write a cache file; with name, model and date, by which a user tells the files apart."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"name": name, "model": model, "date": date, "senses": [asdict(sense) for sense in senses]}
    write(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
