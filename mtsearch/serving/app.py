"""The HTTP service of a model: its routes, JSON answers, batching of requests, a limit on bodies, and its server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import uvicorn
from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtsearch.errors import RequestError
from mtsearch.host import bind, url_of
from mtsearch.serving.model import CARD_FILE, Recommended, ServedModel, read_info
from mtsearch.serving.requests import (
    MAX_ANSWERS,
    AnswerModels,
    PredictBody,
    PredictQuery,
    Problem,
    RecommendBody,
    RecommendQuery,
    check_ids,
    check_k,
    make_answer_models,
)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in ((400, "Not JSON"), (413, "Too large"), (422, "Cannot be answered"))
}


def make_app(model: ServedModel, card: str | None, executor: Executor) -> FastAPI:
    """Make the HTTP service of one model.

    Args:
        model: the model to serve.
        card: its model card in Markdown; None: it has none.
        executor: a pool of one thread, which runs the model.
    """
    app = FastAPI(title="mtsearch", version=version("mtsearch"), description="A trained recommender.", redoc_url=None)
    app.add_middleware(BodyLimit)
    described = make_answer_models(model.info.tasks)
    _add_recommend(app, model, executor, described)
    _add_predict(app, model, executor, described)
    _add_info(app, model, card)
    _add_error_handlers(app)
    return app


def _add_recommend(app: FastAPI, model: ServedModel, executor: Executor, described: AnswerModels) -> None:
    """Add the routes that recommend items; a model that cannot refuses with the reason, and does not describe them."""
    answers = JsonAnswers(model)
    batcher = MicroBatcher(answers.recommend, executor)
    info = model.info
    shown: dict[str, Any] = {"responses": _PROBLEMS, "include_in_schema": bool(info.rankings)}
    named = f"By default they are ranked by {info.first}. Tasks: {', '.join(info.rankings)}."

    @app.get("/recommend", response_model=described.recommend, description=f"{_RECOMMEND_ONE} {named}", **shown)
    async def recommend(query: Annotated[RecommendQuery, Query()]) -> Response:
        tasks = tuple(info.find_rankings(query.task))
        check_k(query.k, info.catalogue)
        check_ids([query.user], "user")
        return _json_response(await batcher.answer((query.k, query.exclude_seen, tasks), query.user))

    @app.post("/recommend", response_model=described.recommend_many, description=f"{_RECOMMEND_MANY} {named}", **shown)
    async def recommend_many(body: Annotated[RecommendBody, Body()]) -> Response:
        tasks = tuple(info.find_rankings(body.task))
        check_k(body.k, info.catalogue)
        check_ids(body.users, "user")
        if len(body.users) * body.k * len(tasks) > MAX_ANSWERS:
            factors = f"{len(body.users)} users times k = {body.k}" + (
                f" times {len(tasks)} tasks" if tasks[1:] else ""
            )
            raise RequestError(f"{factors} is more than {MAX_ANSWERS}", "ask in several requests")
        key = body.k, body.exclude_seen, tasks
        return _json_response(await _run_in(executor, answers.recommend_many, key, body.users))


_RECOMMEND_ONE = "Return the best k items for a user, best first."
_RECOMMEND_MANY = "Return the best k items for each of several users."


def _add_predict(app: FastAPI, model: ServedModel, executor: Executor, described: AnswerModels) -> None:
    """Add the routes that predict; a model that cannot refuses with the reason, and does not describe them."""
    answers = JsonAnswers(model)
    batcher = MicroBatcher(answers.predict, executor)
    info = model.info
    shown: dict[str, Any] = {"responses": _PROBLEMS, "include_in_schema": bool(info.heads)}

    @app.get("/predict", response_model=described.predict, **shown)
    async def predict(query: Annotated[PredictQuery, Query()]) -> Response:
        """Return the ratings and labels that are predicted for a user and an item."""
        info.require_heads()
        check_ids([query.user], "user")
        check_ids([query.item], "item")
        return _json_response(await batcher.answer(None, (query.user, query.item)))

    @app.post("/predict", response_model=described.predict_many, **shown)
    async def predict_many(body: Annotated[PredictBody, Body()]) -> Response:
        """Return the ratings and labels that are predicted for each of several pairs of a user and an item."""
        info.require_heads()
        check_ids([pair.user for pair in body.pairs], "user")
        check_ids([pair.item for pair in body.pairs], "item")
        return _json_response(
            await _run_in(executor, answers.predict_many, [(pair.user, pair.item) for pair in body.pairs])
        )


def _add_info(app: FastAPI, model: ServedModel, card: str | None) -> None:
    """Add the routes for the state of the service and the model card."""

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Confirm that the service is running, and describe its model."""
        return {"status": "ok", "mtsearch": version("mtsearch"), "model": model.info.model_dump()}

    @app.get("/card", response_class=PlainTextResponse)
    async def model_card() -> Response:
        """Return the model card, in Markdown."""
        if card is None:
            raise HTTPException(404, "this model has no model card")
        return PlainTextResponse(card, media_type="text/markdown")


def _add_error_handlers(app: FastAPI) -> None:
    """Make every error an answer in JSON with the key `error`."""

    @app.exception_handler(RequestError)
    async def _answer_request_error(_request: Request, error: RequestError) -> Response:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def _answer_validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        # NOTE: a body without a JSON content type is never parsed, so the error is about the body as a whole.
        unparsed = tuple(first["loc"]) == ("body",) and not _has_json_type(request)
        problem = RequestError(
            _describe_validation_error(first), "send the header Content-Type: application/json" if unparsed else ""
        )
        return JSONResponse({"error": str(problem)}, 400 if first["type"] == "json_invalid" else 422)

    @app.exception_handler(HTTPException)
    async def _answer_http_error(_request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _answer_failure(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"error": "the service failed; see its log"}, 500)


def _has_json_type(request: Request) -> bool:
    """Return whether the content type of a request is JSON, or a kind of JSON such as `application/problem+json`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _describe_validation_error(problem: dict[str, Any]) -> str:
    """Describe one validation error of pydantic in a line."""
    part, *place = problem["loc"]
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']} at character {place[0]}"
    named = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:40]}" for step in place).lstrip(".")
    return f"{named or part}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


async def _run_in(executor: Executor, work: Callable[..., bytes], *args: object) -> bytes:
    """Run work in the executor, so that the event loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(executor, work, *args)


def _json_response(content: bytes) -> Response:
    return Response(content, media_type="application/json")


MAX_BODY = 2 << 20
"""Largest body in bytes; 1,000 pairs of the longest ids are 1 MiB."""

_DISCARDED = 64 << 20


class BodyLimit:
    """ASGI middleware that answers a body above `MAX_BODY` with status 413, and HEAD requests as GET.

    The server leaves the body of an answer to HEAD out.


    Args:
        app: the application that gets the accepted requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; see ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if int(length) > MAX_BODY:  # the server has already refused a length that is no number
            await _discard(receive)
            await JSONResponse({"error": _too_large_error().detail}, status_code=413)(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, _limit_body(receive), send)


def _limit_body(receive: Receive) -> Receive:
    """Pass on the messages of a body, and raise an error once they are too long.

    The limit is needed for chunked bodies, which have no length header.
    """
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            await _discard(receive)
            raise _too_large_error()
        return message

    return counted


async def _discard(receive: Receive) -> None:
    """Read on and discard the body, up to a limit: a client that is cut off while it sends never reads the error."""
    discarded = 0
    while discarded < _DISCARDED:
        message = await receive()
        discarded += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _too_large_error() -> HTTPException:
    return HTTPException(413, f"the body is larger than {MAX_BODY >> 20} MiB")


IdPair = tuple[str, str]
Ranked = tuple[int, bool, tuple[str, ...]]
"""How items are ranked: k, whether to leave out items that were seen, and the tasks."""


class JsonAnswers:
    """Answers to one or many requests, as JSON; see `make_answer_models`.

    Args:
        model: to call.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def recommend(self, key: Ranked, users: Sequence[str]) -> list[bytes]:
        """Return the recommendations for each user."""
        return [_encode(user) for user in self._recommendations(key, users)]

    def recommend_many(self, key: Ranked, users: Sequence[str]) -> bytes:
        """Return the recommendations for all users in one answer."""
        return _encode({"results": self._recommendations(key, users)})

    def predict(self, _key: None, pairs: Sequence[IdPair]) -> list[bytes]:
        """Return the predictions for each pair."""
        return [_encode(pair) for pair in self._predictions(pairs)]

    def predict_many(self, pairs: Sequence[IdPair]) -> bytes:
        """Return the predictions for all pairs in one answer."""
        return _encode({"results": self._predictions(pairs)})

    def _recommendations(self, key: Ranked, users: Sequence[str]) -> list[dict[str, Any]]:
        k, exclude_seen, tasks = key
        lists = {task: self._model.recommend(users, k, exclude_seen, task) for task in tasks}
        known = lists[tasks[0]].known.tolist()
        answers: list[dict[str, Any]] = []
        for row, user in enumerate(users):
            items = {task: [_item_json(item) for item in found.of(row)] for task, found in lists.items()}
            listed = {"tasks": items} if len(tasks) > 1 else {"items": items[tasks[0]]}
            answers.append({"user": user, "known": known[row], **listed})
        return answers

    def _predictions(self, pairs: Sequence[IdPair]) -> list[dict[str, Any]]:
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        found = self._model.predict(users, items)
        predictions = [values.tolist() for values in found.of_tasks.values()]
        names = ("user", "item", *found.of_tasks, "known_user", "known_item")
        columns = (users, items, *predictions, found.known_users.tolist(), found.known_items.tolist())
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _item_json(item: Recommended) -> dict[str, Any]:
    return {"item": item.item, "title": item.title, "score": item.score, **item.predictions}


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


Key = TypeVar("Key", bound=Hashable)
Question = TypeVar("Question")
Answer = TypeVar("Answer")

BATCH_SIZE = 32
BATCH_SECONDS = 0.001


class MicroBatcher(Generic[Key, Question, Answer]):
    """A collector of requests with the same key, which answers a group of them in one call.

    A group is complete after a millisecond, or when it has 32 requests.

    Args:
        ask: answers questions of one key, in their order; runs in `executor`, so that the event loop goes on.
        executor: the thread that runs TensorFlow.
        size: number of questions at which a group is answered at once.
        seconds: time that the first question waits for others.
    """

    def __init__(
        self,
        ask: Callable[[Key, Sequence[Question]], Sequence[Answer]],
        executor: Executor,
        size: int = BATCH_SIZE,
        seconds: float = BATCH_SECONDS,
    ) -> None:
        self._ask, self._executor = ask, executor
        self._size, self._seconds = size, seconds
        self._waiting: dict[Key, _Group[Question, Answer]] = {}

    async def answer(self, key: Key, question: Question) -> Answer:
        """Return the answer to one question.

        If the call that answers its group fails, its error is raised for every question of the group.
        """
        loop = asyncio.get_running_loop()
        # The first question of a key starts the timer of its group; a full group does not wait for the timer.
        group = self._waiting.get(key)
        if group is None:
            group = self._waiting[key] = _Group(loop.call_later(self._seconds, self._send, key))
        future: asyncio.Future[Answer] = loop.create_future()
        group.questions.append(question)
        group.futures.append(future)
        if len(group.questions) >= self._size:
            self._send(key)
        return await future

    def _send(self, key: Key) -> None:
        """Answer the waiting questions of a key in one call."""
        group = self._waiting.pop(key)
        group.timer.cancel()
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._ask, key, group.questions)
        work.add_done_callback(partial(_set_answers, group.futures))


class _Group(Generic[Question, Answer]):
    """The waiting questions of one key, and the futures for their answers."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.questions: list[Question] = []
        self.futures: list[asyncio.Future[Answer]] = []


def _set_answers(futures: Sequence[asyncio.Future[Answer]], work: asyncio.Future[Sequence[Answer]]) -> None:
    """Set the futures of a group to its answers, or to the error of the call."""
    error = work.exception()
    answers = work.result() if error is None else [None] * len(futures)
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # the client has closed the connection
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)  # type: ignore[arg-type]


_HEADER_BYTES = 2 << 20  # so that a very long URL also reaches the routes, which answer in JSON
_LAST_REQUESTS_SECONDS = 5


def serve(folder: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish the requests that have begun.

    Args:
        folder: the model folder.
        host: address or name to listen on.
        port: port to listen on; 0: any free one.
        ready: called with the URL once requests are answered.

    Raises:
        ModelError: the folder cannot be used.
        MachineError: the address cannot be listened on.
    """
    read_info(folder)
    # A port that is in use is found before the model is loaded, which takes seconds.
    with bind(host, port) as listener, ThreadPoolExecutor(1, "model") as executor:
        model = ServedModel.load(folder)
        config = uvicorn.Config(
            make_app(model, _read_card(folder), executor),
            http="h11",
            h11_max_incomplete_event_size=_HEADER_BYTES,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
        )
        # NOTE: after an orderly end uvicorn raises the signal again, which the command line turns into
        # KeyboardInterrupt; nothing is interrupted here.
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, lambda: ready(url_of(listener))).run([listener])


class _Server(uvicorn.Server):
    """A uvicorn server that calls `ready` once it answers, and logs no traceback for requests that it had to cancel."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then call `ready`; see uvicorn."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop without tracebacks of cancelled requests; see uvicorn."""
        logging.getLogger("uvicorn.error").addFilter(
            _is_not_cancellation
        )  # is never removed: asyncio cancels after this call
        await super().shutdown(sockets)


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    """Return whether a log message is about anything but a cancelled request.

    NOTE: uvicorn cancels requests that are not done in time, and then logs the cancellation as an error.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _read_card(folder: Path) -> str | None:
    """Return the text of the model card; None if the folder has none."""
    try:
        return (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
