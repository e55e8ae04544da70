"""What a table may mean other than how it was read is told, with the line that changes it."""

from pathlib import Path

import numpy as np
import pytest

from mtsearch.data import load, make_split
from mtsearch.data.doubts import tell_of_split
from mtsearch.study_file.sections import SplitSection
from tests.data.test_tables import section

pytestmark = pytest.mark.quick


def write(folder: Path, content: str) -> Path:
    (folder / "t.csv").write_text(content)
    return folder / "t.csv"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("heading", "rows", "line"),
    [
        ("user,item,event", ["1,2,view", "1,3,view", "2,2,buy"], "where = \"event = 'view'\""),
        ("user,item,click", ["1,2,1", "1,3,0", "2,2,0"], 'where = "click = 1"'),
    ],
)
def test_rows_of_several_kinds_are_told(
    tmp_path: Path, messages: pytest.LogCaptureFixture, heading: str, rows: list[str], line: str
) -> None:
    path = write(tmp_path, "\n".join([heading, *rows]))
    load(section(path))
    assert any(line in each for each in told(messages))
    messages.clear()
    load(section(path, where=line.removeprefix('where = "').removesuffix('"')))
    assert not any("count alike" in each for each in told(messages))


@pytest.mark.parametrize(
    ("ratings", "doubted"),
    [
        ([-1, 6, 7, 8, 9, 10], "-1"),
        ([99, -9.5, -3, 0.5, 4, 9], "99"),
        ([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5], "0"),
        ([0, 1, 2, 3, 4, 5], ""),
        ([1, 2, 3, 4, 5], ""),
        ([0, 1], ""),
    ],
)
def test_codes_for_not_rated_are_told(
    tmp_path: Path, messages: pytest.LogCaptureFixture, ratings: list[float], doubted: str
) -> None:
    path = write(tmp_path, "user,item,rating\n" + "".join(f"u{n},i,{r}\n" for n, r in enumerate(ratings)))
    load(section(path))
    found = [each for each in told(messages) if "not rated" in each]
    assert bool(found) == bool(doubted)
    assert not doubted or found[0].startswith(f"data: the rating {doubted} of")
    messages.clear()
    if doubted:
        kept = [each for each in ratings if each != float(doubted)]
        load(section(path, rating_range=[min(kept), max(kept)], out_of_range="drop"))
        assert not told(messages)


def test_pairs_on_both_sides_of_a_random_split_are_told(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    pairs = [f"u{rng.integers(20)},i{rng.integers(20)}\n" for _ in range(500)]
    path = write(tmp_path, "user,item\n" + "".join(pairs))
    by_hand = SplitSection()
    table = load(section(path))
    split = make_split(table, by_hand)
    trained = set(zip(split.train.users.tolist(), split.train.items.tolist(), strict=True))
    judged = list(zip(split.validation.users.tolist(), split.validation.items.tolist(), strict=True))
    share = sum(pair in trained for pair in judged) / len(judged)
    tell_of_split(split, by_hand)
    assert any(f"data: {100 * share:.1f} % of the validation rows have a pair" in each for each in told(messages))
    messages.clear()
    tell_of_split(split, SplitSection(method="temporal"))
    tell_of_split(make_split(load(section(path, duplicates="last")), by_hand), by_hand)
    assert not any("have a pair" in each for each in told(messages))


def test_rows_of_strangers_are_told(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "user,item\n" + "".join(f"u{n},i{n % 7}\n" for n in range(100)))  # each user once
    tell_of_split(make_split(load(section(path)), SplitSection()), SplitSection())
    found = [each.getMessage() for each in messages.records if "without training rows" in each.getMessage()]
    assert found == ["data: 100.0 % of the validation rows are of users or items without training rows"]


def test_a_first_line_that_may_be_a_row_is_told(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "ann,tea\nbob,pot\ncyd,tea\n")
    columns = {"user": 1, "item": 2}
    assert len(load(section(path, columns=columns)).rows) == 2
    assert any("'ann', 'tea', is taken for a heading" in each for each in told(messages))
    for header, rows in ((False, 3), (True, 2)):
        messages.clear()
        assert len(load(section(path, columns=columns, reader={"header": header})).rows) == rows
        assert not any("heading" in each for each in told(messages))


def test_a_heading_may_have_a_number(tmp_path: Path) -> None:
    assert len(load(section(write(tmp_path, "user_id,item_id,2020\n1,2,3\n"))).rows) == 1


def test_a_column_of_counts_that_is_not_used_is_told(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "user,item,plays\na,x,3\nb,y,5\n")
    assert load(section(path)).rows.ratings.tolist() == [1, 1]
    assert any("column 'plays' is not used" in each for each in told(messages))
    for feedback in ("count", "binary"):
        messages.clear()
        load(section(path, feedback=feedback))
        assert not any("'plays'" in each for each in told(messages))
