"""Small files in the exact formats of published data sets: read right with at most a line of study file, or refused."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtsearch.data import load
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import DataSection
from tests.data.test_tables import Row, decoded, section

pytestmark = pytest.mark.quick

Write = Callable[[Path], Path]


def text(name: str, content: str, encoding: str = "utf-8") -> Write:
    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content.encode(encoding)
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write


def folder_of(**files: str) -> Write:
    def write(folder: Path) -> Path:
        for name, content in files.items():
            text(name.replace("__", "."), content, "latin-1")(folder)
        return folder

    return write


def zipped(name: str, files: dict[str, str], encoding: str = "latin-1") -> Write:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, content in files.items():
                archive.writestr(member, content.encode(encoding))
        return folder / name

    return write


def parquet(name: str, **columns: list[Any]) -> Write:
    def write(folder: Path) -> Path:
        pq.write_table(pa.table(columns), folder / name)
        return folder / name

    return write


def hive(folder: Path) -> Path:
    for day, user, item, rating in (("2020-01-01", "a", "x", 4), ("2020-01-02", "b", "y", 5)):
        (folder / f"h/day={day}").mkdir(parents=True)
        pq.write_table(
            pa.table({"user": [user], "item": [item], "rating": [rating]}), folder / f"h/day={day}/0.parquet"
        )
    return folder / "h"


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


DAT = {
    "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
    "movies.dat": "1193::Léon (1994)::Crime\n661::J: A (1996)::X\n",
}
CSV = {
    "ml/ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,3,3.5,964981247\n",
    "ml/movies.csv": 'movieId,title,genres\n1,"Big, The (1995)",A|B\n3,Old (1995),C\n',
    "ml/tags.csv": "userId,movieId,tag,timestamp\n1,1,fun,1445714994\n",
    "ml/links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n3,0113228,15602\n",
}
OF_DAT: list[Row] = [("1", "1193", 5, 978300760), ("2", "661", 3, 978302109)]
OF_CSV: list[Row] = [("1", "1", 4, 964982703), ("2", "3", 3.5, 964981247)]
YELP = lines(
    {
        "review_id": "r",
        "user_id": "u",
        "business_id": "b",
        "stars": 4.0,
        "useful": 1,
        "text": "a\nb",
        "date": "2018-07-07 22:09:11",
    }
)
AMAZON_2014 = lines({"reviewerID": "A1", "asin": "B1", "helpful": [0, 0], "overall": 5.0, "unixReviewTime": 1252800000,
                     "reviewTime": "09 13, 2009"})  # fmt: skip
AMAZON_2018 = lines({"overall": 4.0, "verified": True, "reviewTime": "10 20, 2014", "reviewerID": "A1", "asin": "B1",
                     "style": {"Format:": " X"}, "unixReviewTime": 1413763200})  # fmt: skip
AMAZON_2023 = lines({"rating": 5.0, "title": "T", "asin": "B2", "parent_asin": "B1", "user_id": "A1",
                     "timestamp": 1588687728923, "verified_purchase": True})  # fmt: skip
LASTFM = '00000c28\t3bd73256\tbetty "b" blowtorch\t2137\n00000c28\tf2fb0ff0\t"die Ärzte\t1099\n'
RECBOLE = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n"

READ: dict[str, tuple[Write, dict[str, Any], list[Row]]] = {
    "movielens 1m": (zipped("ml-1m.zip", {f"ml-1m/{name}": each for name, each in DAT.items()}), {}, OF_DAT),
    "movielens 10m": (
        folder_of(ratings__dat="1::122::4.5::838985046\n", movies__dat="122::Boomerang (1992)::Comedy\n"), {},
        [("1", "122", 4.5, 838985046)],
    ),
    "movielens latest": (zipped("ml-latest-small.zip", CSV, "utf-8"), {}, OF_CSV),
    "movielens 25m, its file": (text("ratings.csv", CSV["ml/ratings.csv"]), {}, OF_CSV),
    "book-crossing": (
        text("BX-Book-Ratings.csv", '"User-ID";"ISBN";"Book-Rating"\n"276725";"034545104X";"0"\n"276726";"é";"5"\n',
             "latin-1"),
        {"reader": {"encoding": "latin-1"}}, [("276725", "034545104X", 0, 0), ("276726", "é", 5, 0)],
    ),
    "amazon 2014": (text("r.json.gz", AMAZON_2014), {}, [("A1", "B1", 5, 1252800000)]),
    "amazon 2014, csv": (
        text("ratings_Books.csv", "AH2L9G3DQHHAJ,0000000116,4.0,1019865600\n"),
        {"columns": {"user": 1, "item": 2, "rating": 3, "timestamp": 4}},
        [("AH2L9G3DQHHAJ", "0000000116", 4, 1019865600)],
    ),
    "amazon 2018": (text("r.json.gz", AMAZON_2018), {}, [("A1", "B1", 4, 1413763200)]),
    "amazon 2023": (text("r.jsonl.gz", AMAZON_2023), {}, [("A1", "B1", 5, 1588687728)]),
    "yelp": (text("yelp_academic_dataset_review.json", YELP), {}, [("u", "b", 4, 1531001351)]),
    "last.fm 360k": (
        text("usersha1-artmbid-artname-plays.tsv", LASTFM),
        {"columns": {"user": 1, "item": 2, "rating": 4}, "feedback": "count", "reader": {"quote": ""}},
        [("00000c28", "3bd73256", 7.667626, 0), ("00000c28", "f2fb0ff0", 7.003065, 0)],
    ),
    "retailrocket": (
        text("events.csv", "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
             "1433224214164,992329,transaction,248676,4000\n"), {"where": "event = 'view'"},
        [("257597", "355908", 1, 1433221332)],
    ),
    "yoochoose": (
        text("yoochoose-clicks.dat", "1,2014-04-07T10:51:09.277Z,214536502,0\n"),
        {"columns": {"user": 1, "item": 3, "timestamp": 2}}, [("1", "214536502", 1, 1396867869)],
    ),
    "taobao": (
        text("UserBehavior.csv", "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n"),
        {"columns": {"user": 1, "item": 2, "timestamp": 5}},
        [("1", "2268318", 1, 1511544070), ("1", "2333346", 1, 1511561733)],
    ),
    "h&m": (
        text("transactions_train.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n"
             "2018-09-20,000058a1,0663713001,0.0508,2\n"), {}, [("000058a1", "0663713001", 1, 1537401600)],
    ),
    "goodbooks-10k": (
        folder_of(ratings__csv="user_id,book_id,rating\n1,258,5\n", to_read__csv="user_id,book_id\n9,8\n",
                  books__csv='book_id,goodreads_book_id,original_title,title\n'
                       '258,2767052,HG,"The Hunger Games (1)"\n'), {},
        [("1", "258", 5, 0)],
    ),
    "steam-200k": (
        text("steam-200k.csv", '151603712,"The Elder Scrolls V Skyrim",purchase,1.0,0\n'
             '151603712,"The Elder Scrolls V Skyrim",play,273.0,0\n'),
        {"columns": {"user": 1, "item": 2}, "where": "\"3\" = 'purchase'"},
        [("151603712", "The Elder Scrolls V Skyrim", 1, 0)],
    ),
    "anime": (text("rating.csv", "user_id,anime_id,rating\n1,20,-1\n"
         "1,24,8\n"), {"where": "rating <> -1"}, [("1", "24", 8, 0)]),
    "kuairec": (
        text("big_matrix.csv", "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
             "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.27\n"), {},
        [("0", "3649", 1.27, 1593878903)],
    ),
    "tenrec": (
        text("ctr_data_1M.csv", "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age\n"
             "1,2,1,0,0,0,1,3,2,3\n1,3,0,0,0,0,1,0,2,3\n"), {"where": "click = 1"}, [("1", "2", 1, 0)],
    ),
    "rees46": (
        text("2019-Oct.csv", "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,"
             "user_session\n"
             "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n"), {},
        [("541312140", "44600062", 1, 1569888000)],
    ),
    "recbole": (folder_of(ml__inter=RECBOLE), {}, [("196", "242", 3, 881250949)]),
    "hive": (hive, {}, [("a", "x", 4, 0), ("b", "y", 5, 0)]),
    "parquet": (parquet("t.parquet", user_id=[1, 2], item_id=["x", "y"], rating=[1.0, 2.0]), {},
                [("1", "x", 1, 0), ("2", "y", 2, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_published_format_is_read(tmp_path: Path, name: str) -> None:
    write, keys, wanted = READ[name]
    rows = decoded(load(section(write(tmp_path), **keys)))
    assert [row[:2] for row in rows] == [row[:2] for row in wanted]
    assert [row[3] for row in rows] == [row[3] for row in wanted]
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in wanted], rel=1e-6)


@pytest.mark.parametrize(("name", "title"), [("movielens 1m", "Léon (1994)"), ("movielens latest", "Big, The (1995)"),
                                             ("goodbooks-10k", "The Hunger Games (1)")])  # fmt: skip
def test_titles_are_found(tmp_path: Path, name: str, title: str) -> None:
    write, keys, _ = READ[name]
    titles = load(section(write(tmp_path), **keys)).titles
    assert titles is not None and title in titles.tolist()


REFUSED: dict[str, tuple[Write, dict[str, Any], str]] = {
    "excel": (text("t.xlsx", "PK"), {}, "is a spreadsheet; save its sheet as CSV"),
    "unknown names": (
        text("t.csv", "who,what,how\n1,2,3\n"), {}, 'name them under [data]: columns = { user = "...", item = "..." }',
    ),
    "taobao": (READ["taobao"][0], {}, "seems to have no heading: its first line is '1', '2268318'"),
    "book-crossing": (READ["book-crossing"][0], {}, 'is not UTF-8; write reader = { encoding = "latin-1" }'),
    "netflix": (text("combined_data_1.txt", "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n"), {}, "columns"),
    "jester": (text("jester-data-1.csv", "74,-7.82,8.79,-9.66\n100,4.08,-0.29,6.36\n"), {}, "no heading"),
    "two tables": (
        folder_of(a__csv="user,item\n1,2\n", b__csv="user,item,when\n1,2,3\n"), {}, "has several tables: a.csv, b.csv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_line_that_helps(tmp_path: Path, name: str) -> None:
    write, keys, told = REFUSED[name]
    with pytest.raises(MalformedData) as caught:
        load(section(write(tmp_path), **keys))
    assert told in str(caught.value)


def test_a_list_and_a_pattern_are_the_rows_of_all_files(tmp_path: Path) -> None:
    first = text("a-1.csv", "user,item\n1,2\n")(tmp_path)
    second = text("a-2.csv", "user,item\n3,4\n")(tmp_path)
    wanted = [("1", "2", 1, 0), ("3", "4", 1, 0)]
    assert decoded(load(DataSection.model_validate({"source": [str(first), str(second)]}))) == wanted
    assert decoded(load(section(tmp_path / "a-*.csv"))) == wanted


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    path = zipped("x.zip", {"d/a.csv": "user,item\n1,2\n", "d/b.csv": "user,item,c\n3,4,5\n"})(tmp_path)
    assert decoded(load(section(path / "d/b.csv"))) == [("3", "4", 1, 0)]


def test_a_query_joins_and_derives(tmp_path: Path) -> None:
    text("orders.csv", "who,what,price\n1,2,3.5\n1,3,9\n2,9,1\n")(tmp_path)
    text("goods.csv", "what,name\n2,Tea\n3,Pot\n")(tmp_path)
    query = "SELECT who AS user, name AS item, price AS rating FROM 'orders.csv' JOIN 'goods.csv' USING (what)"
    found = load(DataSection.model_validate({"query": query, "query_folder": str(tmp_path)}))
    assert decoded(found) == [("1", "Pot", 9, 0), ("1", "Tea", 3.5, 0)]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("DROP TABLE x", "is not one SELECT"),
        ("SELECT 1; SELECT 2", "is not one SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "is not one SELECT"),
        ("SELECT * FROM 'gone.csv'", "No files found"),
        ("SELECT user FRM x", "query: Parser Error"),
    ],
)
def test_a_query_that_is_none(tmp_path: Path, query: str, told: str) -> None:
    with pytest.raises(MalformedData, match=told):
        load(DataSection.model_validate({"query": query, "query_folder": str(tmp_path)}))
    assert list(tmp_path.iterdir()) == []


def test_a_condition_that_is_none(tmp_path: Path) -> None:
    path = text("t.csv", "user,item,price\n1,2,3\n")(tmp_path)
    with pytest.raises(MalformedData, match="where: Binder Error"):
        load(section(path, where="prize > 0"))
    with pytest.raises(MalformedData, match="where: Parser Error"):
        load(section(path, where="true); COPY (SELECT 1) TO 'written.csv'; SELECT (1"))
    assert not Path("written.csv").exists()
    with pytest.raises(MalformedData, match="has no rows that meet `where`"):
        load(section(path, where="price > 5"))


def test_columns_may_be_left_out(tmp_path: Path) -> None:
    path = text("t.csv", "user,item,rating\n1,2,3\n")(tmp_path)
    assert decoded(load(section(path, columns={"rating": False}))) == [("1", "2", 1, 0)]
    with pytest.raises(MalformedData, match="no column 7, it has 3; give a number from 1 to 3"):
        load(section(path, columns={"user": 7}))


def test_a_decimal_comma(tmp_path: Path) -> None:
    path = text("t.csv", "user;item;rating\n1;2;3,5\n1;3;1.000,25\n")(tmp_path)
    table = load(section(path, reader={"decimal": ","}))
    assert table.rows.ratings.tolist() == [3.5, 1000.25]


def test_quotes_that_swallow_rows_are_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A quote begins a field, and the next one ends one ten rows later: nine rows are between them.
    marks = {0: '"i{}', 10: 'i{}"'}
    body = "".join(f"u{n}\t{marks.get(n % 20, 'i{}').format(n)}\t{n % 5}\n" for n in range(100))
    path = text("t.tsv", "user\titem\trating\n" + body)(tmp_path)
    table = load(section(path))
    assert len(table.rows) == 100
    assert any("seem to have no meaning" in each.getMessage() for each in caplog.records)
    assert len(load(section(path, reader={"quote": ""})).rows) == 100
