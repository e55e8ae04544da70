"""The HTTP service: routes, and one clear line of JSON for whatever cannot be answered."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from mtsearch.errors import RequestError
from mtsearch.serving.answers import Answers
from mtsearch.serving.batching import MicroBatcher
from mtsearch.serving.limits import Bounded
from mtsearch.serving.model import ServedModel
from mtsearch.serving.requests import check_ids, check_k
from mtsearch.serving.schemas import (
    MAX_ANSWERS,
    ManyPredictions,
    ManyRecommendations,
    PredictBody,
    PredictedRating,
    PredictQuery,
    Problem,
    RecommendBody,
    RecommendQuery,
    UserRecommendations,
)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in ((400, "No JSON"), (413, "Too large"), (422, "Cannot be answered"))
}


def make_app(model: ServedModel, card: str | None, executor: Executor) -> FastAPI:
    """The service of one model.

    Args:
        model: answers.
        card: its model card in Markdown; None: it has none.
        executor: of one thread, where the model works.
    """
    app = FastAPI(title="mtsearch", version=version("mtsearch"), description="A trained recommender.", redoc_url=None)
    app.add_middleware(Bounded)
    _add_recommend(app, model, executor)
    _add_predict(app, model, executor)
    _add_facts(app, model, card)
    _add_problems(app)
    return app


def _add_recommend(app: FastAPI, model: ServedModel, executor: Executor) -> None:
    answers = Answers(model)
    batcher = MicroBatcher(answers.recommend, executor)
    catalogue = model.facts.catalogue

    @app.get("/recommend", response_model=UserRecommendations, responses=_PROBLEMS)
    async def recommend(query: Annotated[RecommendQuery, Query()]) -> Response:
        """The best k items for a user, best first."""
        check_k(query.k, catalogue)
        check_ids([query.user], "user")
        return _json(await batcher.answer((query.k, query.exclude_seen), query.user))

    @app.post("/recommend", response_model=ManyRecommendations, responses=_PROBLEMS)
    async def recommend_many(body: Annotated[RecommendBody, Body()]) -> Response:
        """The best k items for each of many users."""
        check_k(body.k, catalogue)
        check_ids(body.users, "user")
        if len(body.users) * body.k > MAX_ANSWERS:
            raise RequestError(f"{len(body.users)} users times k = {body.k} is more than {MAX_ANSWERS}",
                               "ask in several requests")  # fmt: skip
        return _json(await _in(executor, answers.recommend_many, (body.k, body.exclude_seen), body.users))


def _add_predict(app: FastAPI, model: ServedModel, executor: Executor) -> None:
    answers = Answers(model)
    batcher = MicroBatcher(answers.predict, executor)

    @app.get("/predict", response_model=PredictedRating, responses=_PROBLEMS)
    async def predict(query: Annotated[PredictQuery, Query()]) -> Response:
        """The rating that a user would give an item."""
        check_ids([query.user], "user")
        check_ids([query.item], "item")
        return _json(await batcher.answer(None, (query.user, query.item)))

    @app.post("/predict", response_model=ManyPredictions, responses=_PROBLEMS)
    async def predict_many(body: Annotated[PredictBody, Body()]) -> Response:
        """The rating of each of many pairs."""
        check_ids([pair.user for pair in body.pairs], "user")
        check_ids([pair.item for pair in body.pairs], "item")
        return _json(await _in(executor, answers.predict_many, [(pair.user, pair.item) for pair in body.pairs]))


def _add_facts(app: FastAPI, model: ServedModel, card: str | None) -> None:
    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That the service is up, and which model it has."""
        return {"status": "ok", "mtsearch": version("mtsearch"), "model": model.facts.model_dump()}

    @app.get("/card", response_class=PlainTextResponse)
    async def model_card() -> Response:
        """The model card, in Markdown."""
        if card is None:
            raise HTTPException(404, "this model has no model card")
        return PlainTextResponse(card, media_type="text/markdown")


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def _cannot(_request: Request, error: RequestError) -> Response:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        # NOTE: a body that is not said to be JSON is never parsed, so that it is wrong as a whole.
        unparsed = tuple(first["loc"]) == ("body",) and not _says_json(request)
        problem = RequestError(_said(first), "send Content-Type: application/json with it" if unparsed else "")
        return JSONResponse({"error": str(problem)}, 400 if first["type"] == "json_invalid" else 422)

    @app.exception_handler(HTTPException)
    async def _refused(_request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _failed(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"error": "the service failed; its log says why"}, 500)


def _says_json(request: Request) -> bool:
    """Whether the request's content type is JSON, or a kind of it such as `application/problem+json`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _said(problem: dict[str, Any]) -> str:
    """One of pydantic's problems in a line."""
    part, *place = problem["loc"]
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']} at character {place[0]}"
    named = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:40]}" for step in place).lstrip(".")
    return f"{named or part}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


async def _in(executor: Executor, work: Callable[..., bytes], *args: object) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(executor, work, *args)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
