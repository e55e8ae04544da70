"""The tables [data], [split], [model], sampler and pruner of a study file."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mtsearch.errors import DefinitionError
from mtsearch.study_file.space import Number, Section, VariantSection
from mtsearch.text import nearest, quote

Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(min_length=1)]
Feedback = Literal["explicit", "binary", "count"]


PATHS = ("source", "items")
"""The keys of [data] whose values may be paths."""

_SOURCE_NAME = re.compile(r"(movielens|synthetic)/[\w-]*")


def is_source_name(source: str) -> bool:
    """Tell whether a source has the form of a name, such as `movielens/1m`, and not of a path."""
    return _SOURCE_NAME.fullmatch(source) is not None


def make_all_absolute(paths: Any, folder: Path) -> Any:
    """Return a path, or each of a list of paths, as `make_absolute` does; anything else is returned unchanged."""
    if isinstance(paths, (list, tuple)):
        return type(paths)(make_all_absolute(path, folder) for path in paths)
    return make_absolute(paths, folder) if isinstance(paths, str) and paths else paths


def make_absolute(path: str, folder: Path) -> str:
    """Return the absolute form of a path that is relative to `folder`; the name of a source is returned unchanged."""
    if is_source_name(path):
        return path
    try:
        target = folder.absolute() / Path(path).expanduser()
        return str(target.parent.resolve() / target.name)  # a link itself keeps its name: its target may have no suffix
    except (OSError, RuntimeError, ValueError):  # unknown home folder, no current folder, or an impossible file name
        return path


Place = Name | Annotated[int, Field(ge=1)]
"""A column's name, or its number from 1 on."""


class Reader(Section):
    """How to read delimited text where it cannot be told from the file."""

    separator: Annotated[str, Field(min_length=1, max_length=4)] | None = Field(
        default=None, description="Text between two fields."
    )
    header: bool | None = Field(default=None, description="Whether the first line names the columns.")
    quote: Annotated[str, Field(max_length=1)] | None = Field(
        default=None, description='Sign around fields that may have separators and line ends in them; "" for none.'
    )
    escape: Annotated[str, Field(max_length=1)] | None = Field(
        default=None, description="Sign before a quote within a field; by default the quote itself."
    )
    encoding: Literal["utf-8", "utf-16", "latin-1"] | None = Field(default=None, description="Encoding of the text.")
    decimal: Literal[".", ","] = Field(default=".", description="Decimal sign of the ratings.")
    null: tuple[str, ...] = Field(default=(), strict=False, description="Texts that mean a missing value.")
    skip: int = Field(default=0, ge=0, description="Lines before the heading.")


class Columns(Section):
    """The names of the table's columns, or their numbers; columns with a usual name are found without them."""

    user: Place | None = Field(default=None, description="Column of the user's id; text or whole numbers.")
    item: Place | None = Field(default=None, description="Column of the item's id; text or whole numbers.")
    rating: Place | Literal[False] | None = Field(
        default=None,
        description='Column of the rating: stars, or with feedback = "count" a number of times; false for none.',
    )
    timestamp: Place | Literal[False] | None = Field(
        default=None,
        description="Column of the time: seconds, milliseconds, microseconds or nanoseconds since 1970, or dates as "
        "in 2026-01-31; false for none.",
    )

    weight: Place | None = Field(
        default=None, description="Column of a factor of the row's losses in training, 0 or more; by default 1 each."
    )


class ItemColumns(Section):
    """The names of the columns of the items file."""

    item: Place | None = Field(default=None, description="Column of the item's id, as in the table.")
    title: Place | Literal[False] | None = Field(
        default=None, description="Column of the title, which `recommend` shows beside the id; false for none."
    )


class DataSection(Section):
    """The table [data]: the source of the ratings and how it is read."""

    source: Name | Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] = Field(
        default="movielens/100k",
        description="movielens/100k, 1m, 20m or 25m; synthetic/100k, 1m, 25m, shop-100k or shop-1m, made-up data; "
        "or a path, a pattern with *, or a list of them: tables as CSV, TSV, .dat, JSON, JSON Lines, Parquet or "
        "RecBole's .inter, also with .gz or .zst; a folder or a zip of them, such as those of MovieLens. "
        "Relative to the study file's folder.",
    )
    query: Name | None = Field(
        default=None,
        description="In place of a source: one SELECT in DuckDB's SQL. Its paths are relative to the study file's "
        "folder.",
    )
    query_folder: Name | None = Field(
        default=None, description="Folder that the paths in `query` are relative to; left out, the study file's."
    )
    where: Name | None = Field(
        default=None,
        description="Condition in SQL on the columns of the table: rows that do not meet it are not read.",
    )
    reader: Reader = Field(default=Reader(), description="How delimited text is read.")
    columns: Columns = Field(default=Columns(), description="Names or numbers of the columns of such a table.")
    items: Name | None = Field(
        default=None,
        description="Path of another table: the items that may be recommended, and their titles. Without one it is "
        "every item of the training side.",
    )
    item_columns: ItemColumns = Field(
        default=ItemColumns(), description="Names or numbers of the columns of that table."
    )
    feedback: Feedback | None = Field(
        default=None,
        description="Meaning of a row: explicit is a rating; binary is 1 for each row, those whose rating column says "
        "0 left out; count is log(1 + number of times), and 0 times is left out. Without a rating column binary.",
    )
    rating_range: tuple[Number, Number] | None = Field(
        default=None, strict=False, description="Lowest and highest rating, or number of times, that is allowed."
    )
    missing: Literal["error", "drop"] = Field(
        default="error",
        description="What to do with rows without a user, an item, or a value of another column that is read.",
    )
    out_of_range: Literal["error", "drop", "clip"] = Field(
        default="error", description="What to do with rows whose rating is infinite or outside rating_range."
    )
    duplicates: Literal["keep", "error", "drop", "last", "mean"] = Field(
        default="keep",
        description="Several rows of one user and one item: keep all of them, drop exact copies, keep the last by "
        "time (of one time the last in a table), or make one of them with their mean rating and their last time.",
    )

    @field_validator(*PATHS)
    @classmethod
    def _make_paths_absolute(cls, paths: Any) -> Any:
        # NOTE: an absolute path lets a study and an export find the file again from any current folder.
        return make_all_absolute(paths, Path.cwd())

    @property
    def sources(self) -> tuple[str, ...]:
        """The names and paths of `source`."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def origin(self) -> str:
        """What the rows come from, for messages."""
        return "the query" if self.query else ", ".join(self.sources)

    @model_validator(mode="after")
    def _require_consistency(self) -> Self:
        if self.rating_range and self.rating_range[0] > self.rating_range[1]:
            raise ValueError(f"rating_range: {self.rating_range[0]} is above {self.rating_range[1]}")
        if self.out_of_range == "clip" and self.rating_range is None:
            raise ValueError('out_of_range = "clip" needs a rating_range to clip to')
        if (
            self.query
            and "source" in self.model_fields_set
            and self.source != DataSection.model_fields["source"].default
        ):
            raise ValueError("query stands in place of source: remove one")
        if self.items is None and self.item_columns != ItemColumns():
            raise ValueError("item_columns names columns of a file that `items` does not name: add items")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_empty_tables(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = written(self)
        # NOTE: definitions of earlier versions must keep their text, so new keys are written only if they are used.
        added = {"query": None, "query_folder": None, "where": None, "reader": Reader()}
        unused = {key for key, value in added.items() if getattr(self, key) == value}
        return {
            key: value
            for key, value in fields.items()
            if not (isinstance(value, dict) and all(each is None for each in value.values())) and key not in unused
        }


class SplitSection(Section):
    """The table [split]: the rows that are held out."""

    method: Literal["random", "temporal", "temporal_user", "leave_last", "column"] = Field(
        default="random",
        description="random draws the rows that are held out. temporal takes the last by time, temporal_user the last "
        "of each user, leave_last the last k of each user to test and the k before to validate, a user's first row "
        "never; of one time the order of the sorted table decides. column reads the part of each row.",
    )
    test: Share = Field(
        default=0.2,
        description="Share of all rows, or of each user's; the search never sees them. Not for leave_last and column.",
    )
    validation: Share | Literal["test"] = Field(
        default=0.1, description='Share of the rest, on which trials are evaluated; "test" only without a [space].'
    )
    validation_users: int | None = Field(
        default=None,
        ge=2,
        lt=2**31,
        description="Number of users with validation rows on whom trials are evaluated, drawn once, the same for all "
        "trials; left out, or if there are no more, all of them. Test rows are always those of all users.",
    )
    seed: Seed = Field(default=42, description="Seed of the draws.")
    group: Literal["pair"] | None = Field(
        default=None,
        description='Of random: "pair" keeps all rows of one user and one item in one part, which else may be trained '
        "on and evaluated.",
    )
    k: int | None = Field(
        default=None,
        ge=1,
        lt=2**31,
        description="Rows that leave_last holds out of each user for each part; 1 if it is left out.",
    )
    column: Name | None = Field(
        default=None, description="Column that method column reads: its values are train, validation and test."
    )

    @model_validator(mode="after")
    def _require_consistency(self) -> Self:
        if (self.column is None) == (self.method == "column"):
            raise ValueError('method = "column" and column = "..." go together: give both or neither')
        if self.k is not None and self.method != "leave_last":
            raise ValueError('k belongs to method = "leave_last": remove it')
        if self.group is not None and self.method != "random":
            raise ValueError('group belongs to method = "random": remove it')
        if self.validation_users is not None and self.validation == "test":
            raise ValueError('validation_users needs validation rows, and validation = "test" has none')
        return self


_FACTORY = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"


class ModelSection(Section):
    """The table [model]: a custom model in place of the joint model."""

    factory: str = Field(
        json_schema_extra={"pattern": _FACTORY},
        description="package.module:function; the function gets (TrialConfig, Split) and returns a tfrs.models.Model.",
    )
    folder: str | None = Field(
        default=None, description="Folder in which the module is looked for first; the study file's if it is left out."
    )

    @field_validator("factory")
    @classmethod
    def _require_form(cls, factory: str) -> str:
        if not re.search(_FACTORY, factory):
            raise ValueError(f"{quote(factory)} does not have the form package.module:function")
        return factory

    @property
    def module(self) -> str:
        """Dotted name of the factory's module."""
        return self.factory.partition(":")[0]

    @property
    def function(self) -> str:
        """Name of the factory function in its module."""
        return self.factory.partition(":")[2]


_GENETIC: Mapping[str, Any] = {"population_size": None, "mutation_prob": None, "crossover_prob": 0.9}
SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 10, "multivariate": False, "n_ei_candidates": 24},
    "nsga2": _GENETIC,
    "nsga3": _GENETIC,
    "gp": {"n_startup_trials": 10, "deterministic_objective": False},
    # NOTE: Optuna leaves `scramble` off, as its workers would have to agree on a seed; here the study has one.
    "qmc": {"qmc_type": "sobol", "scramble": True},
    "random": {},
}
"""Options of each kind with their defaults: those of Optuna, except for `scramble` and `population_size`."""

_UNSUPPORTED = {
    "cmaes": "supports one objective only: use 'gp' or 'nsga2', which support one to four",
    "grid": "needs a list of values for every parameter: write [[trials]], or use 'qmc', which covers [space] evenly",
    "bruteforce": "needs a list of values for every parameter: write [[trials]], or use 'qmc', which covers [space] "
    "evenly",
}
_PACKAGES = {"gp": ("scipy", "torch"), "qmc": ("scipy",)}


def _require_known_sampler(kind: object) -> object:
    if isinstance(kind, str) and kind not in SAMPLERS:
        reason = _UNSUPPORTED.get(kind.lower().replace("-", "").replace("_", ""))
        raise ValueError(f"{kind!r} {reason}" if reason else f"{quote(kind)} is not a sampler{nearest(kind, SAMPLERS)}")
    return kind


SamplerKind = Annotated[
    Literal["tpe", "nsga2", "nsga3", "gp", "qmc", "random"], BeforeValidator(_require_known_sampler)
]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000)]


class Sampler(VariantSection):
    """The sampler, which proposes the next configuration, with its options."""

    defaults: ClassVar = SAMPLERS
    kind: SamplerKind = Field(
        default="tpe",
        description="`tpe` (Parzen estimators), `nsga2` and `nsga3` (genetic), `gp` (Gaussian processes; for trials "
        "of minutes, since it takes a second itself), `qmc` (covers the space evenly), `random`.",
    )
    n_startup_trials: Count | None = Field(
        default=None, description="Of `tpe` and `gp`: complete trials before the model is used; 10."
    )
    multivariate: bool | None = Field(
        default=None, description="Of `tpe`: one model of all parameters together; false."
    )
    n_ei_candidates: Count | None = Field(
        default=None, description="Of `tpe`: candidates per proposal, of which the best is taken; 24."
    )
    population_size: int | None = Field(
        default=None,
        ge=2,
        le=10_000,
        description="Of `nsga2` and `nsga3`: complete trials in a generation; a sixth of the trials asked for when "
        "the study is begun, and 8 at least.",
    )
    mutation_prob: Probability | None = Field(
        default=None,
        description="Of `nsga2` and `nsga3`: chance that a parameter of a child mutates; 1 / number of parameters.",
    )
    crossover_prob: Probability | None = Field(
        default=None, description="Of `nsga2` and `nsga3`: chance that a child has two parents; 0.9."
    )
    deterministic_objective: bool | None = Field(
        default=None, description="Of `gp`: the objectives have no noise; false."
    )
    qmc_type: Literal["sobol", "halton"] | None = Field(default=None, description="Of `qmc`: the sequence; `sobol`.")
    scramble: bool | None = Field(
        default=None, description="Of `qmc`: the sequence is randomised by the study's seed; true."
    )

    def population(self, trials: int) -> int | None:
        """Return the number of complete trials in a generation; None for a sampler without generations.

        Args:
            trials: number of trials that are asked for when the study is begun.
        """
        options = self.options()
        return (options["population_size"] or max(8, trials // 6)) if "population_size" in options else None


def require_packages(sampler: Sampler) -> None:
    """Require the packages of a sampler, which are otherwise imported only at its first proposal.

    Raises:
        DefinitionError: a package of the sampler's extra is not installed.
    """
    missing = [name for name in _PACKAGES.get(sampler.kind, ()) if find_spec(name) is None]
    if missing:
        problem = f"sampler {sampler.kind!r} needs {' and '.join(missing)}, which is not installed"
        raise DefinitionError(problem, f"pip install 'mtsearch[{sampler.kind}]'")


# NOTE: MO-ASHA's paper has 1 and 3; tests/benchmarks/pruning.py measures the time that 2 and 2 save.
_RUNGS: Mapping[str, Any] = {"grace": 2, "reduction": 2}
PRUNERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "halving": _RUNGS,
    "dominated": {**_RUNGS, "margin": 0.05},
}
"""Options of each kind with their defaults."""


def _require_known_pruner(kind: object) -> object:
    if isinstance(kind, str) and kind not in PRUNERS:
        raise ValueError(f"{quote(kind)} is not a pruner{nearest(kind, PRUNERS)}")
    return kind


class Pruner(VariantSection):
    """The pruner, which stops trials before their last epoch, with its options."""

    defaults: ClassVar = PRUNERS
    kind: Annotated[Literal["none", "halving", "dominated"], BeforeValidator(_require_known_pruner)] = Field(
        default="none",
        description="`none`; `halving`: the best half of the trials that reached an epoch go on (MO-ASHA); "
        "`dominated`: a trial is stopped only if the front was better in every objective at the same epoch.",
    )
    grace: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Of `halving` and `dominated`: the first epoch at which a trial may be stopped; 2.",
    )
    reduction: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="Of `halving` and `dominated`: factor from each epoch at which it may be stopped to the next, and "
        "of `halving` one in so many goes on; 2.",
    )
    margin: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Of `dominated`: how much better, as a share of each objective's range at that epoch; 0.05.",
    )

    def conflict_with(self, sampler: str) -> str:
        """Return why this pruner cannot be used with a kind of sampler; an empty text if it can."""
        if self.kind == "none" or sampler != "gp":
            return ""
        return (
            f"study.pruner: {self.kind!r} stops trials, and sampler 'gp' treats each stopped trial as worse than all "
            "others: use sampler 'tpe', or pruner 'none'"
        )


def require_counts(**counts: object) -> None:
    """Raise an error if a given number is not a whole number of one or more.

    Args:
        counts: by the name that the error shows; None means "not given".

    Raises:
        DefinitionError: a number is out of this range.
    """
    for name, given in counts.items():
        if given is not None and (not isinstance(given, Integral) or isinstance(given, bool) or given < 1):
            remedy = "give a whole number, one or more" + (", or 'auto'" if name == "workers" else "")
            raise DefinitionError(f"{name} = {quote(given)}", remedy)


def require_seconds(timeout: object) -> None:
    """Raise an error if a given timeout is not a number above 0; NaN is an error too.

    Raises:
        DefinitionError: the timeout is out of this range.
    """
    if timeout is not None and (not isinstance(timeout, Real) or isinstance(timeout, bool) or not float(timeout) > 0):
        raise DefinitionError(f"timeout = {quote(timeout)}", "give a number of seconds above 0")
