"""Study files: the values that are allowed, and the messages about mistakes."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.errors import DefinitionError
from mtsearch.metrics import metrics_of
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import DEFAULT, StudyDefinition
from mtsearch.study_file.load import shipped
from mtsearch.study_file.space import Choices, Range

RANGE = {"low": 0.01, "high": 1.0}


def make(**tables: Any) -> StudyDefinition:
    return StudyDefinition.from_mapping({"study": {"name": "s"}, "space": {"learning_rate": RANGE}, **tables})


def refusal(**tables: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        make(**tables)
    return one_line(caught.value)


def one_line(error: DefinitionError) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500
    return text


def load_refusal(name: str, *overrides: str, values: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(DefinitionError) as caught:
        StudyDefinition.load(name, overrides, values)
    return one_line(caught.value)


@pytest.mark.parametrize("name", ["ml-100k", "ml-100k-quick", "own-model", "tutorial"])
def test_shipped_definitions_load(name: str) -> None:
    assert shipped()[name].is_file()
    assert StudyDefinition.load(name).study.name == name


def test_the_default_is_shipped() -> None:
    assert DEFAULT in shipped()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"splt": {}}, "unknown key 'splt' (did you mean 'split'?)"),
        ({"study": {"seed": 1}}, "study.name is missing: add it"),
        ({"study": 3}, "study: 3 is not a table"),
        ({"study": {"name": "s", "repeats": 0}}, "study.repeats: input should be greater than or equal to 1, not 0"),
        (
            {"study": {"name": "s", "objectives": ["rmse", "top100"]}},
            "study.objectives: unknown metric 'top100' (did you mean 'top_100'?)",
        ),
        ({"study": {"name": "s", "objectives": []}}, "study.objectives: name one to four metrics, not 0"),
        (
            {"study": {"name": "s", "objectives": ["rmse", "mae", "mrr", "coverage", "ndcg_10"]}},
            "study.objectives: name one to four metrics, not 5",
        ),
        (
            {"study": {"name": "s", "objectives": ["rmse", "mae", "rmse"]}},
            "study.objectives: 'rmse' is named twice: name different metrics",
        ),
        (
            {"space": {"learning_rte": RANGE}},
            "space.learning_rte: unknown parameter (did you mean 'learning_rate'?)",
        ),
        ({"space": {"learning_rate": {"low": 2, "high": 1}}}, "space.learning_rate: low = 2 is above high = 1"),
        (
            {"space": {"learning_rate": 0.1}},
            "space.learning_rate = 0.1 is not a range: write {low = ..., high = ...} or {choices = [...]}",
        ),
        ({"fixed": {"learning_rate": 0.1}}, "'learning_rate' is both in [space] and in [fixed]: remove one"),
        ({"space": {}}, "neither [space] nor [[trials]] is given: add what to search or what to run"),
        ({"fixed": {"epochs": 0}}, "fixed.epochs: input should be greater than or equal to 1, not 0"),
        (
            {"trials": [{"learning_rate": 2}]},
            "[[trials]] number 1: learning_rate = 2 is outside its [space] or between its steps",
        ),
    ],
)
def test_each_mistake_has_its_message(tables: dict[str, Any], message: str) -> None:
    assert refusal(**tables) == f"definition: {message}"


class FindingTests:
    def test_a_folder_of_a_shipped_name_is_not_in_the_way(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / DEFAULT).mkdir()
        assert StudyDefinition.load(DEFAULT).study.name == DEFAULT
        assert load_refusal(f"./{DEFAULT}").startswith(f"./{DEFAULT}: not a file; shipped definitions: ")

    def test_a_file_with_a_suffix_is_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / f"{DEFAULT}.toml").write_text(
            '[study]\nname = "mine"\n[space]\nlearning_rate = {choices = [0.1]}\n'
        )
        assert StudyDefinition.load(f"{DEFAULT}.toml").study.name == "mine"

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("a" * 300, "unknown definition 'aaaa"),
            ("a" * 300 + ".toml", "aaaaa.toml: no such file"),
            ("a\0b", "unknown definition 'a\\x00b'"),
            ("tutoral", "unknown definition 'tutoral' (did you mean 'tutorial'?)"),
            ("", ": not a file"),
        ],
    )
    def test_strange_names(self, name: str, said: str) -> None:
        assert said in load_refusal(name)

    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path) -> None:
        file = tmp_path / "s.toml"
        file.write_text('[study]\nname = "marked"\n[space]\nlearning_rate = { low = 0.1, high = 0.2 }\n', "utf-8-sig")
        assert StudyDefinition.load(str(file)).study.name == "marked"

    def test_a_table_in_its_place(self, tmp_path: Path) -> None:
        table = tmp_path / "ratings.csv"
        table.write_text("userId,movieId,rating\n1,2,3\n")
        assert f"to use a table of ratings, add --set data.source={table}" in load_refusal(str(table))

    def test_no_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_bytes(b"\xff")
        assert "cannot be read" in load_refusal(str(tmp_path / "a.toml"))


class NeverAcceptedTests:
    """Values that are refused because they would end a study midway, or silently change their meaning."""

    @pytest.mark.parametrize(
        "tables",
        [
            {"space": {"rating_weight": {"low": 0, "high": 1}, "retrieval_weight": {"low": 0.0, "high": 1}}},
            {"space": {"rating_weight": {"choices": [1, 0]}, "retrieval_weight": {"low": 0.0, "high": 1}}},
            {"space": {"rating_weight": {"choices": [0.0, 1.0]}, "retrieval_weight": {"choices": [1.0, 0.0]}}},
            {"space": {"rating_weight": {"low": 0.0, "high": 1.0}}, "fixed": {"retrieval_weight": 0}},
        ],
    )
    def test_both_weights_zero(self, tables: dict[str, Any]) -> None:
        assert refusal(**tables).endswith("rating_weight and retrieval_weight are both 0: nothing would be learnt")

    def test_one_weight_may_be_zero(self) -> None:
        make(space={"rating_weight": {"low": 0.0, "high": 1.0}})
        make(space={"rating_weight": {"low": 0.0, "high": 1.0}, "retrieval_weight": {"choices": [1, 2]}})

    @pytest.mark.parametrize(
        "size",
        [
            {"low": 1, "high": 3, "step": 0.5},
            {"low": 1, "high": 3, "step": 1.0},
            {"low": 1.5, "high": 3},
            {"low": 1, "high": 3.5},
            {"low": 16.0, "high": 32.0},
            {"choices": [16, 32.0]},
            {"choices": ["16", "32"]},
            {"choices": [True]},
        ],
    )
    def test_whole_numbers_are_written_without_a_point(self, size: dict[str, Any]) -> None:
        with pytest.raises(DefinitionError, match=r"space\.embedding_size"):
            make(space={"embedding_size": size})

    def test_whole_float_in_fixed(self) -> None:
        said = "fixed.epochs: input should be a valid integer, not 3.0"
        assert refusal(fixed={"epochs": 3.0}) == f"definition: {said}"

    @pytest.mark.parametrize(
        ("low", "high", "step", "fitting"),
        [(1, 100, 10, "101"), (1, 64, 10, "61"), (0.1, 1.0, 0.2, "0.9"), (0.1, 0.2, 0.5, "0.6"), (1, 2, 0.3, "1.9")],
    )
    def test_step_divides_the_range(self, low: float, high: float, step: float, fitting: str) -> None:
        space = {"learning_rate": {"low": low, "high": high, "step": step}}
        said = f"space.learning_rate: step = {step} does not divide high - low: make high = {fitting}"
        assert refusal(space=space) == f"definition: {said}"
        make(space={"learning_rate": {"low": low, "high": float(fitting), "step": step}})

    def test_rounding_alone_is_mended(self) -> None:
        """Optuna divides exactly: it would warn about 0.30000000000000004, and lose the last step of 0.2999999999."""
        for high in (0.1 + 0.2, 0.3 - 1e-11):
            parameter = make(space={"rating_weight": {"low": 0, "high": high, "step": 0.1}}).space["rating_weight"]
            assert parameter == Range(low=0, high=0.3, step=0.1)
        assert Range(low=2, high=2, step=1).high == 2

    @pytest.mark.parametrize("value", [0.25, 0.15])
    def test_listed_values_off_the_grid(self, value: object) -> None:
        space = {"rating_weight": {"low": 0, "high": 1, "step": 0.1}}
        assert "outside its [space] or between its steps" in refusal(space=space, trials=[{"rating_weight": value}])

    def test_listed_values_on_the_grid(self) -> None:
        space = {"rating_weight": {"low": 0, "high": 1, "step": 0.1}}
        make(space=space, trials=[{"rating_weight": value} for value in (0, 1, 0.3, 0.1 + 0.2, 1.0)])

    def test_published_with_other_metrics(self) -> None:
        tables = {"trials": [{"learning_rate": 0.1}] * 2, "published": [{"rmse": 1.0}, {"rmse": 1.0, "mae": 1.0}]}
        said = "[[published]] number 2: its metrics differ from those of number 1: give the same metrics"
        assert refusal(**tables) == f"definition: {said}"

    def test_a_searched_seed(self) -> None:
        said = "space.seed: a search over seeds only finds a lucky one: use [study] repeats"
        assert refusal(space={"seed": {"choices": [1, 2]}}) == f"definition: {said}"


class StrictTypesTests:
    @pytest.mark.parametrize(
        ("tables", "said"),
        [
            ({"space": {"epochs": {"choices": [1, 2]}}, "fixed": {"learning_rate": True}}, "valid number, not true"),
            (
                {"space": {"learning_rate": {"low": "0.1", "high": 1}}},
                "space.learning_rate.low: input should be a valid number, not '0.1'",
            ),
            (
                {"space": {"learning_rate": {"low": 0.1, "high": True}}},
                "space.learning_rate.high: input should be a valid number, not true",
            ),
            ({"space": {"learning_rate": {"low": 0.1, "high": 1, "log": 1}}}, "valid boolean, not 1"),
            ({"space": {"learning_rate": {"choices": [1, 1.0]}}}, "a choice is named twice"),
            ({"space": {"learning_rate": {"choices": [1, True]}}}, "a choice is named twice"),
            (
                {"space": {"learning_rate": {"choices": [0.5, True]}}},
                "space.learning_rate.choices: input should be a valid number, not true",
            ),
            ({"study": {"name": "s", "seed": "1"}}, "study.seed: input should be a valid integer, not '1'"),
            ({"study": {"name": "s", "seed": 1.0}}, "study.seed: input should be a valid integer, not 1.0"),
            ({"split": {"test": "0.2"}}, "split.test: input should be a valid number, not '0.2'"),
            (
                {"trials": [{"learning_rate": 0.1}], "published": [{"rmse": "1"}]},
                "[[published]] number 1: rmse: input should be a valid number, not '1'",
            ),
        ],
    )
    def test_nothing_is_converted(self, tables: dict[str, Any], said: str) -> None:
        assert said in refusal(**tables)

    def test_whole_numbers_where_any_will_do_and_lists_for_tuples(self) -> None:
        definition = make(space={"learning_rate": {"low": 1, "high": 2}, "rating_weight": {"choices": [1, 2]}})
        assert definition.space["rating_weight"] == Choices(choices=(1, 2))
        assert TrialConfig(learning_rate=1).learning_rate == 1.0
        for keys in (["mae"], ["mae", "mrr"], ["mrr", "rmse", "coverage", "mae"]):
            assert make(study={"name": "s", "objectives": keys}).study.objectives == tuple(keys)


class UnreadableTomlTests:
    """Numbers and nesting that Python itself cannot read."""

    def file(self, folder: Path, low: str) -> str:
        path = folder / "a.toml"
        path.write_text(f'[study]\nname = "s"\n[space]\nlearning_rate = {{low = {low}, high = 1}}\n')
        return str(path)

    def test_in_a_file(self, tmp_path: Path) -> None:
        long = "an integer of more than 64 bits"
        path = self.file(tmp_path, "1" + "0" * 400)
        assert load_refusal(path) == f"{path}: space.learning_rate.low is {long}"
        assert load_refusal(self.file(tmp_path, "1" + "0" * 5000)) == f"{path}: {long}"
        assert load_refusal(self.file(tmp_path, "[" * 3000)) == f"{path}: nested too deeply"

    @pytest.mark.parametrize("key", ["fixed.epochs", "study.seed", "study.name", "space.learning_rate.low", "x.y"])
    @pytest.mark.parametrize(
        "value",
        [
            "1" + "0" * 400,
            "1" + "0" * 5000,
            "[" * 3000,
            "[" * 3000 + "]" * 3000,
            "[" * 150 + "]" * 150,
            '"' + "x" * 9000,
        ],
    )
    def test_in_an_override(self, key: str, value: str) -> None:
        load_refusal("ml-100k", f"{key}={value}")

    def test_deep_keys(self) -> None:
        load_refusal("ml-100k", ".".join("a" * 3000) + "=1")
        assert "'name' is not a table" in load_refusal("ml-100k", "study.name.x=1")

    def test_from_python(self) -> None:
        assert refusal(fixed={"epochs": 10**5000}) == "definition: fixed.epochs is an integer of more than 64 bits"


class OverridesTests:
    def test_in_order_and_as_toml(self) -> None:
        overrides = ["fixed.epochs=5", "fixed.epochs = 6", "data.source=a/b.zip", 'study.name="a=b"', "new.x=1"]
        definition = StudyDefinition.load("ml-100k", overrides[:-1])
        assert definition.fixed["epochs"] == 6
        assert (definition.data.source, definition.study.name) == (str(Path("a/b.zip").absolute()), "a=b")
        assert "unknown key 'new'" in load_refusal("ml-100k", *overrides)

    @pytest.mark.parametrize("override", ["epochs=5", "fixed.epochs", "=5", "fixed.=5", ""])
    def test_of_another_form(self, override: str) -> None:
        assert load_refusal("ml-100k", override).startswith(f"--set {override}: not in the form table.key=value;")

    def test_a_second_line_is_no_second_value(self) -> None:
        assert "fixed.epochs" in load_refusal("ml-100k", "fixed.epochs=5\nbatch_size=1")

    def test_one_alone_need_not_be_in_a_list(self) -> None:
        assert StudyDefinition.load("ml-100k", "fixed.epochs=2").fixed["epochs"] == 2

    def test_values_come_last_and_are_not_parsed(self) -> None:
        values = {"study.name": "5 \U0001f600 \"'", "study.seed": 7, "study.sampler.kind": "random"}
        study = StudyDefinition.load("ml-100k", ["study.name=x"], values).study
        assert (study.name, study.seed, study.sampler.kind) == ("5 \U0001f600 \"'", 7, "random")

    @pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\udcff", "a\u2028b", "\x7f"])
    def test_names_that_cannot_be_printed(self, name: str) -> None:
        assert "has a character that cannot be printed" in load_refusal("ml-100k", values={"study.name": name})

    @pytest.mark.parametrize("name", ["  ", " a", "a ", "\u00a0a"])
    def test_names_with_blanks_around_them(self, name: str) -> None:
        assert "begins or ends with a space" in load_refusal("ml-100k", values={"study.name": name})
        assert StudyDefinition.load("ml-100k", values={"study.name": "a b"}).study.name == "a b"

    def test_options_of_the_command(self) -> None:
        from mtsearch.cli.options import load_definition

        given: dict[str, str | int | None] = {"name": "\U0001f600", "seed": 0, "sampler.kind": None}
        study = load_definition("ml-100k", ["study.seed=3"], given).study
        assert (study.name, study.seed, study.sampler.kind) == ("\U0001f600", 0, "tpe")


def test_a_definition_is_immutable() -> None:
    definition = make()
    with pytest.raises(ValueError, match="frozen"):
        definition.study.name = "other"


def test_reading_a_definition_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mtsearch.study_file.definition import StudyDefinition; StudyDefinition.load('ml-100k')\n"
        "heavy = {'tensorflow', 'optuna', 'numpy', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WEIGHTS = st.floats(1e-6, 1e3)
SIZES = st.integers(1, 4096)


@st.composite
def ranges(draw: st.DrawFn, numbers: st.SearchStrategy[float]) -> dict[str, Any]:
    low, high = sorted([draw(numbers), draw(numbers)])
    return {"low": low, "high": high, "log": draw(st.booleans())}


@st.composite
def stepped(draw: st.DrawFn) -> dict[str, Any]:
    low, step, steps = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 5])), draw(st.integers(0, 50))
    digits = draw(st.sampled_from([1, 10, 1000]))
    return {"low": low / digits, "high": (low + step * steps) / digits, "step": step / digits}


def choices(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"choices": st.lists(numbers, min_size=1, max_size=5, unique=True)})


@st.composite
def valid_definitions(draw: st.DrawFn) -> dict[str, Any]:
    weight, size = st.one_of(ranges(WEIGHTS), choices(WEIGHTS), stepped()), st.one_of(ranges(SIZES), choices(SIZES))
    searchable = {
        "rating_weight": weight,
        "retrieval_weight": weight,
        "learning_rate": weight,
        "embedding_size": size,
        "epochs": size,
    }
    space = draw(st.fixed_dictionaries({"patience": size}, optional=searchable))
    fixed = {"seed": draw(st.integers(0, 100))}
    if "epochs" not in space:
        fixed["epochs"] = draw(SIZES)
    initial = [{name: each.get("low", each.get("choices", [None])[0]) for name, each in space.items()}]
    initial *= draw(st.integers(0, 2))
    name = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=50).filter(
        lambda text: text == text.strip()
    )
    objectives = st.lists(st.sampled_from(list(metrics_of())), min_size=1, max_size=4, unique=True)
    return {
        "study": {"name": draw(name), "seed": draw(st.integers(0, 2**31 - 1)), "objectives": draw(objectives)},
        "split": {"test": draw(st.floats(0.01, 0.99)), "validation": draw(st.floats(0.01, 0.99))},
        "space": space,
        "fixed": fixed,
        "trials": initial,
        "published": [{"rmse": draw(st.floats(0, 5))} for _ in initial],
    }


@settings(max_examples=100, deadline=None)
@given(valid_definitions())
def test_resolved_and_read_again_is_the_same(raw: dict[str, Any]) -> None:
    definition = StudyDefinition.from_mapping(raw)
    again = StudyDefinition.from_mapping(definition.resolved())
    assert again == definition
    assert again.resolved() == definition.resolved()


@pytest.mark.parametrize("name", list(shipped()))
def test_shipped_resolved_and_read_again_is_the_same(name: str) -> None:
    definition = StudyDefinition.load(name)
    assert StudyDefinition.from_mapping(definition.resolved()) == definition


TUTORIALS = {"rating": {"kind": "rating"}, "retrieval": {"kind": "retrieval"}}


def test_a_custom_model_learns_the_tutorials_tasks() -> None:
    raw: dict[str, Any] = {
        "study": {"name": "s", "objectives": ["rmse", "top_10"]},
        "model": {"factory": "my_model:make"},
        "trials": [{"learning_rate": 0.1}],
    }
    for tasks in ({}, TUTORIALS):
        definition = StudyDefinition.from_mapping({**raw, "tasks": tasks})
        assert definition.losses == "tutorial"
        assert definition.study.objectives == ("rmse", "top_10")
    others: list[dict[str, Any]] = [
        {**TUTORIALS, "click": {"kind": "label", "target": "click"}},
        {"rating": {"kind": "rating"}},
        {**TUTORIALS, "retrieval": {"kind": "retrieval", "where": "rating >= 4"}},
    ]
    for tasks in others:
        with pytest.raises(DefinitionError) as refused:
            StudyDefinition.from_mapping({**raw, "tasks": tasks, "study": {"name": "s", "objectives": ["rmse"]}})
        assert [line for line in str(refused.value).splitlines() if "[tasks]" in line] == [
            "definition: [tasks]: a custom model learns the tutorial's two, rating and retrieval: remove [tasks], or "
            "[model]"
        ]


def test_patience_watches_a_metric_of_the_study_by_its_key() -> None:
    raw: dict[str, Any] = {
        "study": {"name": "s", "objectives": ["purchase.top_10"]},
        "tasks": {
            "view": {"kind": "retrieval", "where": "event = 'view'"},
            "purchase": {"kind": "retrieval", "where": "event = 'purchase'"},
            "stars": {"kind": "rating", "target": "stars"},
        },
        "space": {"learning_rate": {"low": 0.01, "high": 0.1}},
    }
    assert StudyDefinition.from_mapping(raw).config({"patience": 2}).monitor == "stars.rmse"
    for name, key in [("mae", "stars.mae"), ("view.mrr", "view.mrr")]:
        definition = StudyDefinition.from_mapping({**raw, "fixed": {"monitor": name}})
        assert definition.config({"learning_rate": 0.02}).monitor == key
    assert make(space=raw["space"], fixed={"monitor": "rating.mae"}).config({}).monitor == "mae"


def test_coverage_of_some_users_is_no_objective() -> None:
    raw = {
        "study": {"name": "s", "objectives": ["coverage", "top_10"]},
        "split": {"validation_users": 50},
        "trials": [{"learning_rate": 0.1}],
    }
    with pytest.raises(DefinitionError, match=r"coverage of a sample of users .*: drop split.validation_users"):
        StudyDefinition.from_mapping(raw)
    raw["study"] = {"name": "s", "objectives": ["rmse", "top_10"]}
    assert StudyDefinition.from_mapping(raw).split.validation_users == 50
