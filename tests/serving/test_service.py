"""Tests of a real `mtsearch serve` over HTTP: right answers, clear errors, and a service that stays up."""

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.benchmarks.serving import measure
from tests.helpers.served_double import TABLES
from tests.helpers.service import Service, running


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    """Return a client, and check after the test that the service is still up."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
        yield client
    health = httpx.get(f"{service.url}/health", trust_env=False)
    assert (health.status_code, health.json()["status"]) == (200, "ok")


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text[:500]
    body = answer.json()
    assert list(body) == ["error"] and isinstance(body["error"], str)
    assert "\n" not in body["error"] and "Traceback" not in body["error"] and len(body["error"]) < 300
    return str(body["error"])


def test_recommendations(http: httpx.Client) -> None:
    answer = http.get("/recommend", params={"user": "1", "k": 4})
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["user"], body["known"]) == ("1", True)
    assert [item["item"] for item in body["items"]] == TABLES.ranking("1")[:4]
    assert [item["rating"] for item in body["items"]] == pytest.approx(
        [TABLES.rating("1", item) for item in TABLES.ranking("1")[:4]], abs=1e-5
    )
    seen = http.get("/recommend", params={"user": "1", "k": 12, "exclude_seen": "false"}).json()
    assert [item["item"] for item in seen["items"]] == TABLES.ranking("1", exclude_seen=False)
    assert len(http.get("/recommend?user=1").json()["items"]) == 9  # of 12, three were seen


def test_an_unknown_user_is_marked(http: httpx.Client) -> None:
    body = http.get("/recommend", params={"user": "nobody", "k": 2}).json()
    assert body["known"] is False
    assert [item["item"] for item in body["items"]] == TABLES.ranking("nobody")[:2]


def test_many_users(http: httpx.Client) -> None:
    results = http.post("/recommend", json={"users": ["3", "nobody", "1"], "k": 5}).json()["results"]
    assert [(one["user"], one["known"]) for one in results] == [("3", True), ("nobody", False), ("1", True)]
    assert [[item["item"] for item in one["items"]] for one in results] == [
        TABLES.ranking(user)[:5] for user in ("3", "nobody", "1")
    ]


def test_predictions(http: httpx.Client) -> None:
    one = http.get("/predict", params={"user": "2", "item": "i7"}).json()
    assert one == {"user": "2", "item": "i7", "rating": pytest.approx(TABLES.rating("2", "i7"), abs=1e-5),
                   "known_user": True, "known_item": True}  # fmt: skip
    pairs = [{"user": "nobody", "item": "i1"}, {"user": "4", "item": "nothing"}]
    results = http.post("/predict", json={"pairs": pairs}).json()["results"]
    assert [(one["known_user"], one["known_item"]) for one in results] == [(False, True), (True, False)]
    assert [one["rating"] for one in results] == pytest.approx(
        [TABLES.rating("nobody", "i1"), TABLES.rating("4", "nothing")], abs=1e-5
    )


def test_health_and_model_card(http: httpx.Client) -> None:
    assert http.get("/health").json()["model"]["catalogue"] == 12
    card = http.get("/card")
    assert card.headers["content-type"].startswith("text/markdown")
    assert card.text == "# A model for tests\n\nRMSE é 0.9\n"
    paths = http.get("/openapi.json").json()["paths"]
    assert {path: set(methods) for path, methods in paths.items()} == {
        "/recommend": {"get", "post"}, "/predict": {"get", "post"}, "/health": {"get"}, "/card": {"get"},
    }  # fmt: skip
    assert http.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/recommend", "user: field required"),
        ("/recommend?user=", "user: "),
        ("/recommend?user=1&k=13", "k = 13 is not between 1 and 12"),
        ("/recommend?user=1&k=0", "k: "),
        ("/recommend?user=1&k=-5", "k: "),
        ("/recommend?user=1&k=ten", "k: "),
        ("/recommend?user=1&k=1e400", "k: "),
        ("/recommend?user=1&k=" + "9" * 5000, "k: "),
        ("/recommend?user=1&k=99999999999999999999", "between 1 and 12"),
        ("/recommend?user=1&exclude_seen=perhaps", "exclude_seen: "),
        ("/recommend?user=1&kk=3", "kk: "),
        ("/recommend?user=4%002", "NUL"),
        ("/recommend?user=" + "4" * 257, "user: string should have at most 256 characters"),
        ("/recommend?user=" + "4" * 1_000_000, "user: string should have at most 256 characters"),
        ("/predict?user=1", "item: field required"),
        ("/predict?user=1&item=%00", "NUL"),
    ],
)
def test_queries_that_cannot_be_answered(service: Service, http: httpx.Client, target: str, said: str) -> None:
    answer = raw(service, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert said in problem(answer, 422)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/recommend", b"", 422, "body: field required"),
        ("/recommend", b'{"users": ', 400, "the body is not JSON"),
        ("/recommend", b'{"users": ["1"]} and', 400, "the body is not JSON"),
        ("/recommend", b"\xff\xfe", 400, "body"),
        ("/recommend", b"[" * 100_000, 400, "body"),
        ("/recommend", b"null", 422, "body"),
        ("/recommend", b'["1"]', 422, "body: "),
        ("/recommend", b'{"users": "1"}', 422, "users: "),
        ("/recommend", b'{"users": []}', 422, "users: "),
        ("/recommend", b'{"users": [42]}', 422, "users[0]: input should be a valid string"),
        ("/recommend", b'{"users": ["1", null]}', 422, "users[1]: "),
        ("/recommend", b'{"users": [{"id": "1"}]}', 422, "users[0]: "),
        ("/recommend", b'{"users": [""]}', 422, "users[0]: "),
        ("/recommend", b'{"users": ["\\ud800"]}', 422, "users[0]: "),
        ("/recommend", b'{"users": ["4\\u00002"]}', 422, "NUL"),
        ("/recommend", b'{"users": ["1"], "k": 13}', 422, "between 1 and 12"),
        ("/recommend", b'{"users": ["1"], "k": "3"}', 422, "k: "),
        ("/recommend", b'{"users": ["1"], "k": true}', 422, "k: "),
        ("/recommend", b'{"users": ["1"], "k": 1e999}', 422, "k: "),
        ("/recommend", b'{"users": ["1"], "k": ' + b"9" * 5000 + b"}", 400, "body"),
        ("/recommend", b'{"users": ["1"], "' + b"x" * 100_000 + b'": 1}', 422, "extra"),
        ("/recommend", json.dumps({"users": ["1"] * 1001}).encode(), 422, "users: "),
        ("/recommend", json.dumps({"users": ["4" * 1_000_000]}).encode(), 422, "users[0]: "),
        ("/recommend", b" " * (8 << 20), 413, "larger than 2 MiB"),
        ("/predict", b'{"pairs": [["1", "i1"]]}', 422, "pairs[0]: "),
        ("/predict", b'{"pairs": [{"user": "1", "item": 7}]}', 422, "pairs[0].item: "),
        ("/predict", b'{"pairs": [{"user": "1", "item": "\\u0000"}]}', 422, "NUL"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_bodies_that_cannot_be_answered(http: httpx.Client, path: str, body: bytes, status: int, said: str) -> None:
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert said in problem(answer, status)


def test_a_huge_body_in_chunks(http: httpx.Client) -> None:
    answer = http.post("/recommend", content=(b" " * 65536 for _ in range(200)))
    assert "larger than 2 MiB" in problem(answer, 413)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonl"])
def test_a_body_that_is_not_said_to_be_json(http: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    said = problem(http.post("/recommend", content=b'{"users": ["1"]}', headers=headers), 422)
    assert said.startswith("body: ") and said.endswith("; send the header Content-Type: application/json")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"])
def test_a_body_that_is_said_to_be_json(http: httpx.Client, kind: str) -> None:
    headers = {"content-type": kind}
    assert http.post("/recommend", content=b'{"users": ["1"]}', headers=headers).status_code == 200
    for body in (b"[]", b'{"users": 1}', b'{"users": '):
        assert "Content-Type" not in http.post("/recommend", content=body, headers=headers).json()["error"]


def test_routes_and_methods(http: httpx.Client) -> None:
    assert problem(http.get("/nothing"), 404) == "Not Found"
    assert problem(http.delete("/recommend"), 405) == "Method Not Allowed"
    for target in ("/health", "/card", "/recommend?user=1"):
        head = http.head(target)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(http.get(target).content)
    assert http.head("/recommend?user=1&k=99").status_code == 422


NO_HTTP = {
    "words": b"nonsense\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "4 MiB URL": b"GET /" + b"x" * (4 << 20) + b" HTTP/1.1\r\n\r\n",
    "length": b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
    "lengths": b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@pytest.mark.parametrize("content", list(NO_HTTP.values()), ids=list(NO_HTTP))
def test_what_is_no_http(service: Service, http: httpx.Client, content: bytes) -> None:
    answer = raw(service, content)
    assert 400 <= answer.status_code < 500


def test_clients_that_hang_up(service: Service, http: httpx.Client) -> None:
    for content in (b"", b"GET /recommend?us", b"GET /recommend?user=1 HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"):  # fmt: skip
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(content)


def test_each_gets_their_own_answer_at_once(service: Service, http: httpx.Client) -> None:
    """64 different requests in flight: users, k and exclude_seen are not mixed up in the batches."""
    asked = [(user, k, flag) for k in (1, 2, 5, 12) for user in [*TABLES.user_ids, "x", "y", "z"] for flag in (0, 1)]

    async def ask() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as client:
            targets = [f"/recommend?user={user}&k={k}&exclude_seen={flag}" for user, k, flag in asked]
            return [answer.json() for answer in await asyncio.gather(*map(client.get, targets))]

    for (user, k, flag), body in zip(asked, asyncio.run(ask()), strict=True):
        assert body["user"] == user
        assert [item["item"] for item in body["items"]] == TABLES.ranking(user, bool(flag))[:k]


def test_a_bad_request_does_not_spoil_those_it_came_with(service: Service, http: httpx.Client) -> None:
    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as client:
            targets = [f"/recommend?user={user}" for user in ("1", "%00", "2", "3", "%00", "4") * 5]
            return [answer.status_code for answer in await asyncio.gather(*map(client.get, targets))]

    assert asyncio.run(ask()) == [200, 422, 200, 200, 422, 200] * 5


@pytest.mark.slow
def test_the_load_test(folder: Path) -> None:
    one, many = measure(folder, TABLES.user_ids, requests=500, connections=32)
    assert (len(one.latencies), len(many.latencies)) == (500, 500)
    assert one.errors == many.errors == 0
    assert "p50" in one.line() and "0 errors" in many.line()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order(folder: Path, number: signal.Signals) -> None:
    with running(folder) as service:
        httpx.get(f"{service.url}/recommend?user=1", trust_env=False)
        service.process.send_signal(number)
        assert service.process.wait(20) == 0
    assert service.log == []


@pytest.mark.slow
def test_a_client_that_never_ends_its_request_leaves_a_line(folder: Path) -> None:
    half = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with running(folder) as service, socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(half)
        httpx.get(f"{service.url}/health", trust_env=False)  # came later, so that the other has begun
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert connection.recv(12) == b"HTTP/1.1 500"
    (line,) = service.log
    assert "Cancel 1 running task" in line


def raw(service: Service, content: bytes) -> httpx.Response:
    """Return the answer to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused before its end
        received = b""
        try:
            while block := connection.recv(65536):
                received += block
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    return httpx.Response(int(head.split(b" ", 2)[1]), content=body)
