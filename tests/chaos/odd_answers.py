"""Odd answers of the gateway: the embedded server's kinds of faults, applied to answers that pass the gateway."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from firecrest_local.faults.plan import Plan
from firecrest_local.faults.replacement import Answer, Replacement, Rewriting
from firecrest_local.faults.request import RequestHead
from firecrest_local.faults.selector import FaultSelector

_SYSTEM = "local"
_PAGES = ("not_found", "maintenance", "bad_gateway", "unavailable", "login")
_SITE_WORDS = ("", "Protocol authentication error", "Zero Bytes were transmitted or received")
#: The rules of each kind. A process that meets a page before anything else takes its URL for wrong, so the pages spare
#: what a client asks for first.
_RULES: dict[str, list[dict[str, Any]]] = {
    "gateway_page": [
        {"fault": "gateway_page", "page": page, "done": done, "route": route, "probability": 0.08}
        for page in _PAGES
        for done in (False, True)
        for route in ("/compute/**", "/filesystem/**")
    ],
    "home_noise": [{"fault": "home_noise"}],
    "file_error": [
        {"fault": "file_error", "words": words, "done": done, "probability": 0.25}
        for words in ("Stale file handle", "Input/output error")
        for done in (False, True)
    ],
    "sbatch_error": [
        {"fault": "sbatch_error", "words": words, "done": done, "probability": 0.2}
        for words in _SITE_WORDS
        for done in (False, True)
    ],
    "list_error": [{"fault": "list_error", "status": status, "probability": 0.5} for status in (408, 413, 500, 502)],
}


def odd_answers(kind: str, seed: int) -> FaultSelector:
    """Return what selects the requests that meet odd answers of a kind."""
    return FaultSelector(Plan.model_validate({"seed": seed, "rules": _RULES[kind]}), started=0.0)


def request_head(head: bytes, body: bytes) -> RequestHead:
    """Read the head of a request as it came over the connection."""
    method, target = head.split(b" ", 2)[:2]
    path, _, query = target.decode("latin-1").partition("?")
    return RequestHead(method.decode(), path, query, size=len(body))


def replaced(rule: Replacement, head: bytes, body: bytes) -> bytes:
    """Return the answer that a rule puts in the place of the server's."""
    response = rule.response(request_head(head, body), body, _SYSTEM)
    return _to_bytes(Answer(response.status_code, response.raw_headers, bytes(response.body)))


def rewritten(rule: Rewriting, answer: bytes) -> bytes:
    """Return the server's answer as a rule changes it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return _to_bytes(rule.rewrite(Answer(int(first.split(b" ")[1]), headers, body), _SYSTEM))


def _to_bytes(answer: Answer) -> bytes:
    skipped = re.compile(rb"(?i)content-length|connection|transfer-encoding")
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.headers if not skipped.fullmatch(name)]
    lines += [f"content-length: {len(answer.body)}".encode(), b"connection: close", b"", answer.body]
    return b"\r\n".join(lines)
