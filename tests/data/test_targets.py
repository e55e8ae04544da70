"""Which rows serve which task, and what they learn from them: read from files, against plain Python."""

import csv
import io
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtsearch.data import Interactions, Split, load, make_split
from mtsearch.data.doubts import tell_of_split
from mtsearch.data.interactions import Rows, make_tasks
from mtsearch.data.split import describe, partition
from mtsearch.errors import DataError
from mtsearch.study_file.sections import DataSection, SplitSection
from mtsearch.study_file.tasks import TaskSection

pytestmark = pytest.mark.quick

Served = dict[str, list[tuple[str, str, float, int]]]

FUNNEL = {
    "view": {"kind": "retrieval", "where": "event = 'view'"},
    "cart": {"kind": "retrieval", "where": "event = 'addtocart'"},
    "purchase": {"kind": "retrieval", "where": "event = 'transaction'"},
}
BOUGHT = {"bought": {"kind": "label", "target": "bought"}}
PARTS = ("train", "validation", "test")
EVENTS = ("view", "addtocart", "transaction", "share")


def tasks_of(tables: Mapping[str, Any]) -> dict[str, TaskSection]:
    return {name: TaskSection.model_validate(table) for name, table in tables.items()}


def text(folder: Path, content: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def read(path: Path, tables: Mapping[str, Any], **keys: Any) -> Interactions:
    """Read a table with tasks; the split does not need times."""
    return load(DataSection.model_validate({"source": str(path), **keys}), SplitSection(), tasks_of(tables))


def served(table: Interactions, tables: Mapping[str, Any]) -> Served:
    """Return the rows of each task: user, item, target and time."""
    found: Served = {}
    for task in make_tasks(tasks_of(tables)):
        rows = table.rows.serving(task)
        users, items = table.user_ids[rows.users].tolist(), table.item_ids[rows.items].tolist()
        found[task.name] = list(zip(users, items, rows.ratings.tolist(), rows.timestamps.tolist(), strict=True))
    return found


def message(path: Path, tables: Mapping[str, Any], **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, tables, **keys)
    told = str(caught.value)
    assert "\n" not in told and caught.value.remedy and len(told) < 600
    return told.replace(str(path.parent) + "/", "")


def shop(rows: int, seed: int = 0) -> str:
    """Return an events file in RetailRocket's format, with events that serve no task among them."""
    draw = random.Random(seed)
    lines = ["timestamp,visitorid,event,itemid,transactionid"]
    for number in range(rows):
        event = draw.choices(EVENTS, [80, 10, 6, 4])[0]
        order = number if event == "transaction" else ""
        time = 1_433_221_332_117 + draw.randrange(10**9)
        lines.append(f"{time},{draw.randrange(40)},{event},{draw.randrange(60)},{order}")
    return "\n".join(lines) + "\n"


def test_an_events_file_has_three_tasks_of_retrieval(tmp_path: Path) -> None:
    content = shop(1_000)
    table = read(text(tmp_path, content, "events.csv"), FUNNEL)
    events = list(csv.DictReader(io.StringIO(content)))
    wanted = {
        name: sorted(
            (row["visitorid"], row["itemid"], 1.0, int(row["timestamp"]) // 1000)
            for row in events
            if row["event"] == event
        )
        for name, event in (("view", "view"), ("cart", "addtocart"), ("purchase", "transaction"))
    }
    assert {name: sorted(rows) for name, rows in served(table, FUNNEL).items()} == wanted
    idle = sum(row["event"] == "share" for row in events)
    assert idle > 10
    assert table.report.counts["rows that serve no task dropped"] == idle
    assert len(table.rows) == len(events) - idle
    assert table.report.ignored == ("transactionid",)  # event is named by the conditions


def test_rows_without_a_rating_serve_retrieval(tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = [
        (f"u{draw.randrange(30)}", f"i{number}", "" if draw.random() < 0.7 else draw.randint(1, 5))
        for number in range(300)
    ]
    path = text(tmp_path, "user,item,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in rows))
    known = sorted((user, item, float(rating), 0) for user, item, rating in rows if rating != "")
    assert 50 < len(known) < 130
    two = {"stars": {"kind": "rating"}, "any": {"kind": "retrieval"}}
    for tables in ({}, two):
        table = read(path, tables)
        stars, everything = served(table, tables).values()
        assert sorted(stars) == known
        assert sorted(row[:2] for row in everything) == sorted(row[:2] for row in rows)
        assert table.report.counts["rows without a rating, which serve the other tasks"] == 300 - len(known)
    split = make_split(read(path, {}), SplitSection())
    assert describe(read(path, {}), split)["without_rating"] == 300 - len(known)
    # Asked to be left out, they are.
    assert len(read(path, {}, missing="drop").rows) == len(known)


def test_zeros_and_ones_are_no_stars(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    path = text(tmp_path, "user,item,rating\na,x,1\na,y,0\nb,x,0\nb,y,1\nc,z,\n")
    table = read(path, {})
    assert served(table, {})["retrieval"] == [("a", "x", 1.0, 0), ("b", "y", 1.0, 0)]
    assert table.report.feedback == "binary"
    assert table.report.counts == {
        "rows of 0 left out (binary feedback)": 2,
        "rows without a value left out (binary feedback)": 1,
    }
    [told] = [each.getMessage() for each in messages.records if "only 0 and 1" in each.getMessage()]
    # The tables that the warning names are read as it says.
    tables = {
        name: {"kind": kind, key: value}
        for name, kind, key, value in re.findall(r'\[tasks\.(\w+)\] kind = "(\w+)" (\w+) = "([^"]+)"', told)
    }
    assert served(read(path, tables), tables) == {
        "chosen": [("a", "x", 1.0, 0), ("b", "y", 1.0, 0)],
        "answer": [("a", "x", 1.0, 0), ("a", "y", 0.0, 0), ("b", "x", 0.0, 0), ("b", "y", 1.0, 0)],
    }
    messages.clear()
    for feedback in ("binary", "explicit"):
        read(path, {}, feedback=feedback)
        assert not any("only 0 and 1" in each.getMessage() for each in messages.records)


def test_what_is_liked_is_a_condition_on_ratings(tmp_path: Path) -> None:
    rows = [("a", "x", 5), ("a", "y", 3), ("b", "x", 4), ("b", "z", 1)]
    path = text(tmp_path, "user,item,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in rows))
    tables = {
        "liked": {"kind": "retrieval", "where": "rating >= 4"},
        "stars": {"kind": "rating"},
        "high": {"kind": "rating", "where": "rating >= 3"},
        "is_five": {"kind": "label", "target": "rating = 5"},
        "half": {"kind": "rating", "target": "rating / 2", "where": "item <> 'y'"},
    }
    found = served(read(path, tables), tables)
    assert found["liked"] == [("a", "x", 1, 0), ("b", "x", 1, 0)]
    assert found["stars"] == [(user, item, rating, 0) for user, item, rating in rows]
    assert found["high"] == [(user, item, rating, 0) for user, item, rating in rows if rating >= 3]
    assert [row[2] for row in found["is_five"]] == [1, 0, 0, 0]
    assert found["half"] == [("a", "x", 2.5, 0), ("b", "x", 2, 0), ("b", "z", 0.5, 0)]


def test_a_rating_task_with_a_condition_learns_the_cleaned_ratings(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,rating\na,x,9\na,y,3\nb,x,1\n")
    high = {"high": {"kind": "rating", "where": "rating >= 3"}, "any": {"kind": "retrieval"}}
    clipped = read(path, high, rating_range=[1, 5], out_of_range="clip")
    assert served(clipped, high)["high"] == [("a", "x", 5, 0), ("a", "y", 3, 0)]
    counted = served(read(path, high, feedback="count"), high)["high"]
    assert [row[2] for row in counted] == pytest.approx(np.log([10, 4]))


@pytest.mark.parametrize("words", [("true", "false"), ("True", "False"), ("1", "0"), ("1.0", "0.0"), ("TRUE", "FALSE")])
@pytest.mark.parametrize("target", ["bought", "bought = true", "NOT NOT bought::BOOLEAN"])
def test_a_yes_or_no_may_be_written_so(tmp_path: Path, words: tuple[str, str], target: str) -> None:
    path = text(tmp_path, f"user,item,bought\na,x,{words[0]}\na,y,{words[1]}\nb,x,\n")
    tables = {"bought": {"kind": "label", "target": target}, "any": {"kind": "retrieval"}}
    if words[0].startswith("1") and target == "bought = true":
        tables["bought"]["target"] = "bought = 1"
    assert served(read(path, tables), tables)["bought"] == [("a", "x", 1, 0), ("a", "y", 0, 0)]
    chosen = {"chosen": {"kind": "retrieval", "where": tables["bought"]["target"]}}
    if target != "bought":
        assert served(read(path, chosen), chosen)["chosen"] == [("a", "x", 1, 0)]


@pytest.mark.parametrize("target", ["bought", "times bought", "bought * 2"])
def test_another_number_is_no_yes_or_no_and_the_remedy_works(tmp_path: Path, target: str) -> None:
    path = text(tmp_path, "user,item,bought,times bought\na,x,1,1\na,y,2,2\nb,x,0,0\n")
    told = message(path, {"bought": {"kind": "label", "target": target}})
    assert "t.csv, row " in told
    assert "is not a yes or no of [tasks.bought], which are 1 and 0" in told
    remedy, _ = json.JSONDecoder().raw_decode(told.partition("such as target = ")[2])
    tables = {"bought": {"kind": "label", "target": remedy}}
    assert [row[2] for row in served(read(path, tables), tables)["bought"]] == [1, 1, 0]


def test_only_rows_that_serve_a_task_are_checked(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,kind,answer\na,x,quiz,1\na,y,poll,7\nb,x,quiz,0\n")
    tables = {"right": {"kind": "label", "target": "answer", "where": "kind = 'quiz'"}}
    table = read(path, tables)
    assert served(table, tables)["right"] == [("a", "x", 1, 0), ("b", "x", 0, 0)]
    assert table.report.counts == {"rows that serve no task dropped": 1}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "retrieval", "where": "amount"}, "[tasks.t] where is no condition, but of type double"),
        ({"kind": "retrieval", "where": "event"}, "[tasks.t] where is no condition, but of type string"),
        ({"kind": "retrieval", "where": "evnt = 'view'"}, "t.csv: [tasks.t] where: "),
        ({"kind": "retrieval", "where": "amount >"}, "t.csv: [tasks.t] where: "),
        ({"kind": "retrieval", "where": "true); DROP TABLE x; SELECT (true"}, "t.csv: [tasks.t] where: "),
        ({"kind": "retrieval", "where": "true), (false"}, "t.csv: [tasks.t] where: Parser Error: syntax error"),
        ({"kind": "retrieval", "where": "event = 'view') OR (1 = 1"}, "t.csv: [tasks.t] where: Parser Error: syntax"),
        ({"kind": "rating", "target": "Event"}, "row 1, column 'event': 'view' is not a number"),
        ({"kind": "rating", "target": '"event"'}, "row 1, column 'event': 'view' is not a number"),
        (
            {"kind": "retrieval", "where": "true) AS a, (false"},
            "t.csv: [tasks.t] where: Parser Error: syntax error",
        ),
        ({"kind": "retrieval", "where": "count(*) > 1"}, "t.csv: [tasks.t] where: it does not have a value of its own"),
        ({"kind": "rating", "target": "star"}, "t.csv: [tasks.t] target: "),
        ({"kind": "rating", "target": "event"}, "t.csv, row 1, column 'event': 'view' is not a number"),
        ({"kind": "rating", "target": "event || 'x'"}, "[tasks.t] target is no number, but of type string"),
        ({"kind": "label", "target": "when"}, "column 'when': '2026-01-01' is not a number"),
        ({"kind": "rating", "target": "amount / 0"}, "row 1, column '[tasks.t] target': inf is not finite"),
        ({"kind": "rating", "target": "amount * 1e300"}, "row 1, column '[tasks.t] target': "),
        ({"kind": "rating"}, "no column for rating, which [tasks.t] needs"),
        ({"kind": "retrieval", "where": "amount > 5"}, "no row of the data serves a task"),
        ({"kind": "retrieval", "where": "NULL"}, "[tasks.t] where is no condition"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, table: dict[str, str], expected: str) -> None:
    path = text(tmp_path, "user,item,event,amount,when\na,x,view,4,2026-01-01\na,y,buy,5,2026-01-02\n")
    assert expected in message(path, {"t": table}, columns={"timestamp": False})


def test_a_comment_ends_with_its_line(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,event\na,x,view\na,y,buy\n")
    tables = {
        "view": {"kind": "retrieval", "where": "event = 'view' -- what was only seen"},
        "bought": {"kind": "label", "target": "/* paid */ event = 'buy' -- a sale"},
    }
    found = served(read(path, tables), tables)
    assert [found["view"], [row[2] for row in found["bought"]]] == [[("a", "x", 1, 0)], [0, 1]]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (("1", "-1"), "row 2, column 'w': the weight -1 is negative"),
        (("inf", "1"), "row 1, column 'w': the weight inf is negative, infinite or beyond float32"),
        (("1e39", "1"), "row 1, column 'w': the weight 1e+39 is negative, infinite or beyond float32"),
        (("1", "nan"), "row 2, column 'w': no weight"),
        (("1", ""), "row 2, column 'w': no weight"),
        (("0", "0"), "no row has a weight above 0"),
        (("1", "much"), "row 2, column 'w': 'much' is not a number"),
    ],
)
def test_weights_that_are_none(tmp_path: Path, weights: tuple[str, str], expected: str) -> None:
    path = text(tmp_path, "user,item,w\n" + "".join(f"a,{n},{weight}\n" for n, weight in enumerate(weights)))
    assert expected in message(path, {}, columns={"weight": "w"})
    assert expected in message(path, {"any": {"kind": "retrieval"}}, columns={"weight": "w"})


def test_weights_stay_with_their_rows(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,w\nb,x,2\na,y,0\na,x,0.5\nc,x,\n")
    table = read(path, {}, columns={"weight": "w"}, missing="drop")
    assert table.rows.weights is not None
    pairs = zip(table.user_ids[table.rows.users], table.item_ids[table.rows.items], table.rows.weights, strict=True)
    assert list(pairs) == [("a", "x", 0.5), ("a", "y", 0), ("b", "x", 2)]


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "csv"])
def test_typed_files_are_read_alike(tmp_path: Path, form: str) -> None:
    rows = [("a", "x", True, 4.0), ("a", "y", False, None), ("b", "x", None, 2.0)]
    values = ", ".join(
        f"('{user}', '{item}', {'NULL' if yes is None else yes}, {'NULL' if stars is None else stars})"
        for user, item, yes, stars in rows
    )
    path = tmp_path / f"t.{form}"
    options = ", ARRAY true" if form == "json" else ""
    kind = {"jsonl": "json"}.get(form, form)
    table = f'SELECT * FROM (VALUES {values}) AS t("user", item, bought, rating)'
    duckdb.sql(f"COPY ({table}) TO '{path}' (FORMAT {kind}{options})")
    tables = {
        "bought": {"kind": "label", "target": "bought"},
        "refused": {"kind": "label", "target": "NOT bought"},
        "chosen": {"kind": "retrieval", "where": "bought"},
        "stars": {"kind": "rating"},
        "any": {"kind": "retrieval"},
    }
    found = served(read(path, tables), tables)
    assert found == {
        "bought": [("a", "x", 1, 0), ("a", "y", 0, 0)],
        "refused": [("a", "x", 0, 0), ("a", "y", 1, 0)],
        "chosen": [("a", "x", 1, 0)],
        "stars": [("a", "x", 4, 0), ("b", "x", 2, 0)],
        "any": [row for row in found["any"] if row[:2] in [("a", "x"), ("a", "y"), ("b", "x")]],
    }
    assert len(found["any"]) == 3


def test_several_files_are_one_table(tmp_path: Path) -> None:
    text(tmp_path, "user,item,event,bought\na,x,view,1\n", "shop/1.csv")
    text(tmp_path, "user,item,event,bought\nb,x,buy,\na,y,view,0.0\n", "shop/2.csv")
    tables = {
        "view": {"kind": "retrieval", "where": "event = 'view'"},
        **BOUGHT,
        "twice": {"kind": "rating", "target": "bought * 2"},
    }
    found = served(read(tmp_path / "shop", tables), tables)
    assert found["view"] == [("a", "x", 1, 0), ("a", "y", 1, 0)]
    assert [[row[2] for row in found[name]] for name in ("bought", "twice")] == [[1, 0], [2, 0]]


def test_columns_without_a_heading_have_their_numbers(tmp_path: Path) -> None:
    path = text(tmp_path, "7\t8\t1\tview\n7\t9\t0\tbuy\n")
    tables = {
        "bought": {"kind": "label", "target": "3"},
        "view": {"kind": "retrieval", "where": "\"4\" = 'view'"},
        "sold": {"kind": "label", "target": '"3" = 0'},
    }
    found = served(read(path, tables, columns={"user": 1, "item": 2}), tables)
    assert [row[2] for row in found["bought"]] == [1, 0]
    assert [found["view"], [row[2] for row in found["sold"]]] == [[("7", "8", 1, 0)], [0, 1]]


def test_a_typed_heading_is_named_without_its_type(tmp_path: Path) -> None:
    path = text(tmp_path, "user_id:token\titem_id:token\tlabel:float\n1\t2\t1\n1\t3\t0\n", "t.inter")
    tables = {"clicked": {"kind": "label", "target": "label"}}
    assert [row[2] for row in served(read(path, tables), tables)["clicked"]] == [1, 0]


def test_a_query_has_tasks(tmp_path: Path) -> None:
    path = text(tmp_path, shop(300), "events.csv")
    query = f"SELECT visitorid AS user, itemid AS item, event, event = 'transaction' AS bought FROM '{path}'"
    section = DataSection.model_validate({"query": query})
    tables = FUNNEL | BOUGHT
    table = load(section, SplitSection(), tasks_of(tables))
    events = list(csv.DictReader(io.StringIO(shop(300))))
    found = served(table, tables)
    assert len(found["view"]) == sum(row["event"] == "view" for row in events)
    assert sum(row[2] for row in found["bought"]) == len(found["purchase"])
    assert len(found["bought"]) == len(events)


@pytest.mark.parametrize("how", ["last", "mean"])
def test_the_one_row_of_a_pair_serves_all_its_tasks(tmp_path: Path, how: str) -> None:
    """A purchase must not take the view of the same pair away, nor a view the stars."""
    path = text(
        tmp_path,
        "user,item,event,rating,timestamp\na,x,view,2,10\na,x,buy,4,20\na,x,view,,30\nb,x,view,,40\n",
    )
    tables = {
        "view": {"kind": "retrieval", "where": "event = 'view'"},
        "buy": {"kind": "retrieval", "where": "event = 'buy'"},
        "stars": {"kind": "rating"},
        "high": {"kind": "rating", "where": "rating > 3"},
    }
    found = served(read(path, tables, duplicates=how), tables)
    assert found == {
        "view": [("a", "x", 1, 30), ("b", "x", 1, 40)],
        "buy": [("a", "x", 1, 30)],
        "stars": [("a", "x", 4 if how == "last" else 3, 30)],
        "high": [("a", "x", 4, 30)],
    }


cells = st.tuples(
    st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(EVENTS), st.sampled_from(["", "1", "3", "5"])
)
FULL = FUNNEL | {"stars": {"kind": "rating"}, "top": {"kind": "label", "target": "rating = 5"}}


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(cells, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(tmp_path: Path, rows: list[tuple[str, ...]], draw: random.Random) -> None:
    rows = [*rows, ("a", "x", "view", "3")]
    heading = "user,item,event,rating\n"

    def table(some: list[tuple[str, ...]]) -> Interactions:
        return read(text(tmp_path, heading + "".join(",".join(row) + "\n" for row in some)), FULL)

    first, second = table(rows), table(draw.sample(rows, len(rows)))
    assert first.fingerprint == second.fingerprint
    assert served(first, FULL) == served(second, FULL)
    found = served(first, FULL)
    stars = sorted((user, item, float(rating)) for user, item, _, rating in rows if rating)
    assert sorted(row[:3] for row in found["stars"]) == stars
    assert sorted(row[2] for row in found["top"]) == sorted(float(rating == 5) for *_, rating in stars)
    for name, event in (("view", "view"), ("cart", "addtocart"), ("purchase", "transaction")):
        assert [row[:2] for row in found[name]] == sorted(row[:2] for row in rows if row[2] == event)


def test_targets_and_weights_are_in_the_fingerprints(tmp_path: Path) -> None:
    def fingerprints(bought: str, weight: str, **keys: Any) -> tuple[str, str]:
        rows = "".join(f"u{n},i{n % 5},{n % 2},1\n" for n in range(40))
        path = text(tmp_path, f"user,item,bought,w\n{rows}z,z,{bought},{weight}\n")
        tables = BOUGHT | {"any": {"kind": "retrieval"}}
        table = read(path, tables, **keys)
        return table.fingerprint, make_split(table, SplitSection(), tasks_of(tables)).fingerprint

    weighted = {"columns": {"weight": "w"}}
    found = [
        fingerprints("1", "1"), fingerprints("0", "1"), fingerprints("", "1"),
        fingerprints("1", "1", **weighted), fingerprints("1", "2", **weighted),
    ]  # fmt: skip
    for place in (0, 1):
        assert len({each[place] for each in found}) == len(found)
    assert fingerprints("1", "1") == fingerprints("1", "2")  # a column that is not named is not used


def test_the_tutorials_tasks_written_out_are_the_same_data(tmp_path: Path) -> None:
    tables = {"rating": {"kind": "rating"}, "retrieval": {"kind": "retrieval"}}
    section, split = DataSection(source="synthetic/100k"), SplitSection()
    plain, told = load(section, split), load(section, split, tasks_of(tables))
    assert plain.fingerprint == told.fingerprint
    assert make_split(plain, split).fingerprint == make_split(told, split, tasks_of(tables)).fingerprint


def pairs(rows: Rows) -> set[tuple[int, int]]:
    return set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))


def parts(split: Split) -> list[Rows]:
    return [split.train, split.validation, split.test]


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 12), st.integers(3, 12), st.integers(60, 200), st.integers(0, 10**6))
def test_rows_of_a_pair_stay_together_when_asked(users: int, items: int, rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    table = Interactions.from_columns(
        draw.integers(users, size=rows).astype(str).astype(object),
        draw.integers(items, size=rows).astype(str).astype(object),
        np.ones(rows, np.float32),
        draw.integers(1000, size=rows),
    )
    section = SplitSection(group="pair", seed=seed, test=0.3, validation=0.3)
    part = partition(table, section)
    of_pair: dict[tuple[int, int], set[int]] = {}
    for user, item, place in zip(table.rows.users.tolist(), table.rows.items.tolist(), part.tolist(), strict=True):
        of_pair.setdefault((user, item), set()).add(place)
    assert all(len(places) == 1 for places in of_pair.values())
    # The shares are those of the pairs.
    tested = sum(places == {2} for places in of_pair.values())
    validated = sum(places == {1} for places in of_pair.values())
    assert tested == round(0.3 * len(of_pair))
    assert validated == round(0.3 * (len(of_pair) - tested))


def test_pairs_on_both_sides_are_counted_and_said(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    path, tasks = text(tmp_path, shop(2_000), "events.csv"), tasks_of(FUNNEL)
    table = read(path, FUNNEL)
    split = make_split(table, SplitSection(), tasks)
    told = describe(table, split)["tasks"]
    everything = pairs(split.train)
    for task in split.tasks:
        own = split.of_task(task)
        assert [told[task.name][name] for name in PARTS] == list(map(len, parts(own)))
        keys = list(zip(own.validation.users.tolist(), own.validation.items.tolist(), strict=True))
        assert told[task.name]["validation_pairs_in_train"] == sum(key in pairs(own.train) for key in keys)
        assert told[task.name]["validation_pairs_in_train_of_any"] == sum(key in everything for key in keys)
    assert told["view"]["validation_pairs_in_train"] > 5
    assert told["purchase"]["validation_pairs_in_train_of_any"] > told["purchase"]["validation_pairs_in_train"]
    messages.clear()
    tell_of_split(split, SplitSection())
    said = [each.getMessage() for each in messages.records]
    assert any(each.startswith(f"data: task cart has {told['cart']['train']} to train, ") for each in said)
    assert any('write group = "pair" under [split]' in each for each in said)
    messages.clear()
    together = SplitSection(group="pair")
    split = make_split(table, together, tasks)
    assert not pairs(split.train) & (pairs(split.validation) | pairs(split.test))
    tell_of_split(split, together)
    assert not any("have a pair of user" in each.getMessage() for each in messages.records)


def test_one_point_in_time_divides_all_tasks(tmp_path: Path) -> None:
    path, tasks = text(tmp_path, shop(1_000), "events.csv"), tasks_of(FUNNEL)
    section = SplitSection(method="temporal")
    split = make_split(load(DataSection(source=str(path)), section, tasks), section, tasks)
    views = [split.of_task(task) for task in split.tasks]
    train, validation, test = ([getattr(own, name).timestamps for own in views] for name in PARTS)
    assert max(each.max() for each in train) <= min(each.min() for each in validation)
    assert max(each.max() for each in validation) <= min(each.min() for each in test)
    assert len({int(each.max()) for each in train}) == 3  # the tasks have rows of their own


def test_a_task_without_rows_in_a_part_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"u{n},i{n % 7},view\n" for n in range(50))
    path = text(tmp_path, f"user,item,event\n{rows}u0,i0,buy\n")
    tables = {"view": FUNNEL["view"], "buy": {"kind": "retrieval", "where": "event = 'buy'"}}
    with pytest.raises(DataError, match=r"task buy has no rows to (train|validate|test) on"):
        make_split(read(path, tables), SplitSection(), tasks_of(tables))


def test_a_target_that_never_changes_is_told(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    path = text(tmp_path, "user,item,bought\n" + "".join(f"u{n},i{n % 7},1\n" for n in range(50)))
    split = make_split(read(path, BOUGHT), SplitSection(), tasks_of(BOUGHT))
    tell_of_split(split, SplitSection())
    said = [each.getMessage() for each in messages.records]
    assert "data: the target of [tasks.bought] is 1 in all its training rows, so that there is nothing to learn" in said
