"""Opening storages: real SQLite files, a real PostgreSQL, several real processes."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from mtsearch.api import upgrade
from mtsearch.errors import StorageError, StudyNotFound
from mtsearch.search import storage as subject
from mtsearch.search.storage import DatabaseFile, checkpoint, require_writable, storage_errors
from mtsearch.search.storage.url import MOUNTS, mask_url, network_file_system, resolve_url, sqlite_path
from mtsearch.search.storage.views import ensure_views

PASSWORD = "s3cr3t@word"
DIRECTIONS = [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]


_opened: list[RDBStorage] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    """Close the connections of all storages that a test opened, which would warn when they are garbage collected."""
    yield
    while _opened:
        _opened.pop().engine.dispose()


def open_writer(url: str, create: bool = False, mounts: Path = MOUNTS) -> RDBStorage:
    storage = subject.open_writer(url, create, mounts=mounts)
    assert isinstance(storage, RDBStorage)
    _opened.append(storage)
    return _opened[-1]


def open_reader(url: str) -> RDBStorage:
    storage = subject.open_reader(url)
    assert isinstance(storage, RDBStorage)
    _opened.append(storage)
    return _opened[-1]


@contextmanager
def raw(url: str, timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
    path = sqlite_path(url)
    assert path is not None
    with closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "x.db"


@pytest.fixture
def url(path: Path) -> str:
    return resolve_url(str(path))


def make(url: str, trials: int = 1) -> None:
    """Make a database with a study that no process has open."""
    storage = open_writer(url, create=True)
    study = optuna.create_study(storage=storage, study_name="s", directions=DIRECTIONS, load_if_exists=True)
    study.add_trials([optuna.trial.create_trial(values=[1, 1])] * trials)
    checkpoint(storage)


def trials_in(storage: RDBStorage) -> int:
    return len(optuna.load_study(storage=storage, study_name="s").get_trials(deepcopy=False))


def one_line(error: StorageError) -> str:
    """Return the error message after a check that it is one line with a remedy and shows no password."""
    assert error.remedy
    assert "\n" not in str(error)
    assert not any(part in "".join(traceback.format_exception(error)) for part in (PASSWORD, "s3cr3t", "%40word"))
    return str(error)


def run(storage: RDBStorage, sql: str) -> Any:
    with storage.engine.begin() as connection:
        return connection.execute(text(sql))


class ResolveTests:
    def test_default_and_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MTSEARCH_STORAGE", raising=False)
        assert resolve_url(None) == f"sqlite:///{tmp_path}/studies/mtsearch.db"
        monkeypatch.setenv("MTSEARCH_STORAGE", "other.sqlite3")
        assert resolve_url(None) == f"sqlite:///{tmp_path}/other.sqlite3"
        assert resolve_url("given.db") == resolve_url(Path("given.db")) == f"sqlite:///{tmp_path}/given.db"
        monkeypatch.setenv("MTSEARCH_STORAGE", "")
        assert resolve_url(None) == f"sqlite:///{tmp_path}/studies/mtsearch.db"
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("given", "resolved"),
        [
            ("sqlite:///a/../x.db", "sqlite:///{cwd}/x.db"),
            ("sqlite:///x.db?timeout=5", "sqlite:///{cwd}/x.db?timeout=5"),
            ("sqlite:////abs/x y.db", "sqlite:////abs/x y.db"),
            ("sqlite+pysqlite:///x.db", "sqlite+pysqlite:///{cwd}/x.db"),
            ("sqlite:///file:x.db?mode=ro&uri=true", "file:{cwd}/x.db"),
            ("mysql+pymysql://u@h/n", "mysql+pymysql://u@h/n"),
            ("postgresql+psycopg://u@h/n", "postgresql+psycopg://u@h/n"),
        ],
    )
    def test_urls(self, given: str, resolved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        url, expected = resolve_url(given), resolved.format(cwd=tmp_path)
        assert expected in (url, make_url(url).database)
        assert resolve_url(url) == url

    def test_plain_postgresql_takes_the_driver_that_is_there(self) -> None:
        for plain in ("postgresql://u:p@h/n", "postgres://u:p@h/n"):
            assert resolve_url(plain) in {"postgresql+psycopg://u:p@h/n", "postgresql+psycopg2://u:p@h/n"}

    @pytest.mark.parametrize(
        "given", ["studies", "x.txt", "sqlite://", "sqlite:///:memory:", "://", "sqlite:///file::memory:?uri=true"]
    )
    def test_refused(self, given: str) -> None:
        with pytest.raises(StorageError) as caught:
            resolve_url(given)
        one_line(caught.value)

    @pytest.mark.parametrize("given", ["", "  "])
    def test_an_empty_text_is_not_the_default(self, given: str) -> None:
        with pytest.raises(StorageError, match="the name of the storage is empty; give a path"):
            resolve_url(given)

    def test_odd_paths(self, tmp_path: Path) -> None:
        path = tmp_path / "a b%41&c#ü 100%" / "x?y=z.db"
        try:
            url = resolve_url(str(path))
        except StorageError as error:  # SQLAlchemy before 2.1
            assert "rename" in str(error)
            return
        make(url)
        assert path.exists()
        assert trials_in(open_reader(url)) == 1

    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("sqlite:////abs/x.db?timeout=5", "/abs/x.db"),
            ("postgresql://u:s3cr3t@h:5432/n", "postgresql://u:***@h:5432/n"),
            ("postgresql://u:s3cr3t@word@h/n", "postgresql://u:***@h/n"),
            ("postgresql://u@h/n?password=s3cr3t&a=b", "postgresql://u@h/n?password=***&a=b"),
            ("postgresql:///n?host=/tmp&sslpassword=s3cr3t", "postgresql:///n?host=/tmp&sslpassword=***"),
            ("mysql://u:s3cr3t@h:port/n", "mysql://u:***@h:port/n"),
            ("postgresql://u@h:5432/n", "postgresql://u@h:5432/n"),
        ],
    )
    def test_masked(self, given: str, shown: str) -> None:
        assert mask_url(given) == shown


class NetworkFileSystemsTests:
    @pytest.fixture
    def mounts(self, tmp_path: Path) -> Path:
        table = tmp_path / "mounts"
        lines = ["/dev/sda / ext4 rw 0 0", "srv:/a /mnt/nfs nfs4 rw 0 0", "tmpfs /mnt/nfs/local tmpfs rw 0 0",
                 r"//srv/b /mnt/my\040share cifs rw 0 0", f"srv:/c {tmp_path}/shared lustre rw 0 0"]  # fmt: skip
        table.write_text("\n".join(lines))
        return table

    @pytest.mark.parametrize(
        ("place", "kind"),
        [
            ("/mnt/nfs/a/x.db", "nfs4"),
            ("/mnt/nfs/local/x.db", None),
            ("/mnt/nfs-not/x.db", None),
            ("/mnt/my share/x.db", "cifs"),
            ("/home/x.db", None),
        ],
    )
    def test_longest_mount_point_decides(self, mounts: Path, place: str, kind: str | None) -> None:
        assert network_file_system(Path(place), mounts) == kind

    def test_refused_for_writing(self, mounts: Path, tmp_path: Path) -> None:
        place = tmp_path / "shared" / "x.db"
        with pytest.raises(StorageError, match=r"network file system \(lustre\).*PostgreSQL"):
            open_writer(resolve_url(str(place)), create=True, mounts=mounts)
        assert not place.parent.exists()

    def test_unknown_without_a_table(self, tmp_path: Path) -> None:
        assert network_file_system(tmp_path, tmp_path / "missing") is None


class WriterTests:
    def test_settings(self, url: str) -> None:
        storage = open_writer(url, create=True)
        with storage.engine.connect() as connection:
            pragma = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            ]
            assert pragma == ["wal", 1, 60_000]
            # BEGIN IMMEDIATE: the lock is taken before the first write.
            with raw(url, timeout=0.01) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        storage.engine.dispose()

    def test_only_create_makes_anything(self, url: str, path: Path) -> None:
        with pytest.raises(StorageError, match=r"no database at /.*x\.db; `mtsearch run` makes one"):
            open_writer(url)
        assert not path.parent.exists()
        make(url)
        assert trials_in(open_writer(url)) == 1

    def test_a_database_of_others_gets_no_tables(self, url: str, path: Path) -> None:
        path.parent.mkdir()
        with raw(url) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        for open_it in (open_writer, open_reader):
            with pytest.raises(StorageError, match="holds no studies"):
                open_it(url)
        with raw(url) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]

    def test_options_in_the_url(self, path: Path) -> None:
        url = resolve_url(f"sqlite:///{path}?check_same_thread=false")
        make(url)
        assert trials_in(open_reader(url)) == 1

    def test_checkpoint_leaves_one_file(self, url: str, path: Path) -> None:
        storage = open_writer(url, create=True)
        optuna.create_study(storage=storage, study_name="s")
        assert path.with_name("x.db-wal").stat().st_size > 0
        checkpoint(storage)
        assert [file.name for file in path.parent.iterdir()] == ["x.db"]
        assert trials_in(storage) == 0  # still usable
        storage.engine.dispose()

    def test_checkpoint_is_harmless_when_busy(self, url: str) -> None:
        make(url)
        storage = open_writer(url)
        with raw(url) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM studies").fetchall()
            optuna.load_study(storage=storage, study_name="s").set_user_attr("a", 1)
            checkpoint(storage)


def create_at_once(url: str, barrier: Any, results: Any) -> None:
    try:
        barrier.wait(60)
        storage = open_writer(url, create=True)
        optuna.create_study(storage=storage, study_name=str(os.getpid()))
        ensure_views(storage)
        results.put("")
    except BaseException as error:
        results.put(repr(error))


def race(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=create_at_once, args=(url, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=120) for _ in processes] == [""] * 4
    for process in processes:
        process.join()
    assert len(optuna.get_all_study_names(open_reader(url))) == 4


class ReaderTests:
    def test_never_creates(self, url: str, path: Path) -> None:
        with pytest.raises(StorageError, match="`mtsearch run` makes one"):
            open_reader(url)
        assert not path.parent.exists()
        path.parent.mkdir()
        path.touch()  # what optuna-dashboard leaves behind
        with pytest.raises(StorageError, match="holds no studies; `mtsearch run` makes the first"):
            open_reader(url)
        assert path.stat().st_size == 0

    def test_never_writes(self, url: str, path: Path) -> None:
        make(url)
        before = path.read_bytes()
        reader = open_reader(url)
        assert trials_in(reader) == 1
        with pytest.raises(StorageError, match="cannot be written"), storage_errors(url):
            optuna.load_study(storage=reader, study_name="s").set_user_attr("a", 1)
        reader.engine.dispose()
        assert path.read_bytes() == before

    def test_needs_no_lock(self, url: str) -> None:
        make(url)
        with raw(url) as writer:
            writer.execute("BEGIN IMMEDIATE")
            begin = time.monotonic()
            assert trials_in(open_reader(url)) == 1
            assert time.monotonic() - begin < 5

    def test_one_transaction_is_one_moment(self, url: str) -> None:
        make(url)
        reader, writer = open_reader(url), open_writer(url)
        with reader.engine.connect() as connection:
            count = text("SELECT count(*) FROM trials")
            assert connection.execute(count).scalar() == 1
            make(url)
            assert connection.execute(count).scalar() == 1
        assert trials_in(reader) == 2
        writer.engine.dispose()

    @pytest.mark.slow
    def test_sees_what_another_process_writes(self, url: str) -> None:
        make(url)
        code = (
            "import sys, time, optuna; from mtsearch.search.storage import open_writer\n"
            "study = optuna.load_study(storage=open_writer(sys.argv[1]), study_name='s')\n"
            "while len(study.get_trials(deepcopy=False)) < 60:\n"
            "    study.add_trial(optuna.trial.create_trial(values=[1, 1])); time.sleep(0.02)\n"
        )
        writer = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, url])
        reader, seen = open_reader(url), set()
        while writer.poll() is None:
            seen.add(trials_in(reader))
            time.sleep(0.01)
        assert writer.returncode == 0
        assert len(seen) > 2
        assert trials_in(reader) == 60
        assert trials_in(open_reader(url)) == 60  # after the writer has gone, with and without its -shm file
        reader.engine.dispose()

    def test_a_database_in_rollback_mode(self, url: str, path: Path) -> None:
        path.parent.mkdir()
        plain = RDBStorage(url)
        _opened.append(plain)
        optuna.create_study(storage=plain, study_name="s")
        assert trials_in(open_reader(url)) == 0

    def test_a_folder_that_is_not_writable(self) -> None:
        with written_by_another(file_mode=0o444, folder_mode=0o555) as url:
            assert trials_in(open_reader(url)) == 1
            with (
                pytest.raises(StorageError, match="cannot be written; make the file and its folder writable"),
                storage_errors(url),
            ):
                optuna.create_study(storage=open_writer(url), study_name="t")


@contextmanager
def written_by_another(file_mode: int, folder_mode: int) -> Iterator[str]:
    """Make a database with these file modes, as a user who does not own it sees it."""
    if os.name != "posix":
        pytest.skip("POSIX permissions")
    folder = Path(tempfile.mkdtemp())  # outside pytest's, which only this user may enter
    url = resolve_url(str(folder / "x.db"))
    make(url)
    trials_in(open_reader(url))  # imports everything while that is still allowed
    for left in folder.glob("x.db-*"):
        left.unlink()
    (folder / "x.db").chmod(file_mode)
    folder.chmod(folder_mode)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
            if not os.access(optuna.__file__, os.R_OK, effective_ids=True):
                pytest.skip("only root may read this environment, and root may write everywhere")
        yield url
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


class RequireWritableTests:
    def test_what_can_be_made_or_written_is_left_as_it_is(self, url: str, path: Path) -> None:
        require_writable(url)
        assert not path.parent.exists()
        make(url)
        require_writable(url)

    @pytest.mark.parametrize(
        ("file_mode", "folder_mode", "problem"),
        [
            (0o666, 0o555, r"x\.db cannot be written: .* is not a writable folder; make"),
            (0o444, 0o777, r"x\.db cannot be written; make"),
        ],
    )
    def test_files_without_permission_are_refused(self, file_mode: int, folder_mode: int, problem: str) -> None:
        with written_by_another(file_mode, folder_mode) as url, pytest.raises(StorageError, match=problem):
            require_writable(url)

    def test_a_server_is_not_checked(self) -> None:
        require_writable("postgresql://me@127.0.0.1:1/x")

    def test_a_file_in_place_of_the_folder(self, url: str, path: Path) -> None:
        path.parent.touch()
        with pytest.raises(StorageError, match=f"cannot be written: {path.parent} is not a writable folder"):
            require_writable(url)

    def test_links(self, tmp_path: Path) -> None:
        """A ring of links is refused; a link into a folder that does not exist yet is accepted."""
        (tmp_path / "ring.db").symlink_to(tmp_path / "ring.db")
        ring = resolve_url(str(tmp_path / "ring.db"))
        require_writable(ring)
        with pytest.raises(StorageError, match=r"ring\.db"):
            open_writer(ring, create=True)
        (tmp_path / "link.db").symlink_to(tmp_path / "new" / "real.db")
        link = resolve_url(str(tmp_path / "link.db"))
        require_writable(link)
        make(link)
        assert (tmp_path / "new" / "real.db").exists()

    def test_a_network_file_system(self, url: str, path: Path, tmp_path: Path) -> None:
        mounts = tmp_path / "mounts"
        mounts.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
        with pytest.raises(StorageError, match="network file system"):
            require_writable(url, mounts=mounts)


class ErrorsTests:
    """Tests of the error messages, each with its cause provoked if possible."""

    def failing(self, url: str, create: bool = True) -> str:
        with pytest.raises(StorageError) as caught:
            open_writer(url, create=create)
        return one_line(caught.value)

    def test_a_folder_in_place_of_the_file(self, url: str, path: Path) -> None:
        path.mkdir(parents=True)
        assert f"{path} is a folder" in self.failing(url)
        with pytest.raises(StorageError, match="is a folder"):
            open_reader(url)

    def test_a_file_in_place_of_the_folder(self, url: str, path: Path) -> None:
        path.parent.touch()
        assert "cannot be opened" in self.failing(url)

    def test_a_file_that_is_no_database(self, url: str, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("user,item,rating\n" * 1000)
        assert "file is not a database" in self.failing(url)
        with pytest.raises(StorageError, match="file is not a database"):
            open_reader(url)

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
    @pytest.mark.parametrize("place", ["/proc/x.db", "/proc/none/x.db"])
    def test_a_folder_that_cannot_be_written(self, place: str) -> None:
        assert "cannot be opened" in self.failing(resolve_url(place))

    def test_an_unknown_kind(self) -> None:
        assert "redis://u:***@h is of an unknown kind" in self.failing(f"redis://u:{PASSWORD}@h")

    def test_no_url(self) -> None:
        assert "cannot be parsed" in self.failing(f"mysql://u:{PASSWORD}@h:port/n")

    def test_a_missing_driver(self) -> None:
        assert "pip install 'mtsearch[postgres]'" in self.failing(f"postgresql+pg8000://u:{PASSWORD}@h/n")
        assert "MySQLdb" in self.failing("mysql://u@h/n")

    def test_a_port_that_refuses(self) -> None:
        url = resolve_url(f"postgresql://u:{quote(PASSWORD)}@127.0.0.1:1/n?sslpassword={quote(PASSWORD)}")
        assert "does not answer" in self.failing(url)

    def test_an_unknown_host(self) -> None:
        assert "the host of" in self.failing(resolve_url(f"postgresql://u:{PASSWORD}@no.such.host.invalid/n"))

    @pytest.mark.parametrize(
        ("version", "remedy"), [("v3.0.0.d", "mtsearch studies upgrade"), ("v99", "upgrade mtsearch")]
    )
    def test_a_schema_of_another_version(self, url: str, version: str, remedy: str) -> None:
        make(url)
        run(open_writer(url), f"UPDATE alembic_version SET version_num = '{version}'")
        assert remedy in self.failing(url)
        assert remedy in self.failing(url, create=False)
        with pytest.raises(StorageError, match=f"another version of Optuna.*{remedy}"):
            open_reader(url)

    def test_an_upgrade_goes_through_once_the_views_are_dropped(self, url: str) -> None:
        make(url)
        storage = open_writer(url)
        ensure_views(storage)
        (index,) = run(
            storage, "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE '%trials_study_id'"
        ).scalars()
        run(storage, f"DROP INDEX {index}")
        run(storage, "UPDATE alembic_version SET version_num = 'v3.0.0.c'")
        storage.engine.dispose()
        upgrade(url)
        assert run(open_writer(url), "SELECT count(*) FROM pareto_front").scalar() is not None
        assert trials_in(open_reader(url)) == 1

    def test_locked(self, url: str) -> None:
        make(url)
        storage = open_writer(url)
        with storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=10")
        with raw(url) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="is locked by another program; end that program") as caught:  # noqa: SIM117
                with storage_errors(url):
                    run(storage, "DELETE FROM trials")
        one_line(caught.value)

    def test_full(self, url: str) -> None:
        make(url)
        storage = open_writer(url)
        with storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
        with pytest.raises(StorageError, match=r"no space is left for .*; free some"), storage_errors(url):
            study = optuna.load_study(storage=storage, study_name="s")
            for number in range(200):
                study.set_user_attr(f"a{number}", "x" * 2000)

    def test_damaged(self, url: str, path: Path) -> None:
        make(url, trials=50)
        with path.open("r+b") as file:
            file.seek(4096 * 2)
            file.write(b"\xff" * (path.stat().st_size - 4096 * 2))
        with pytest.raises(StorageError, match=r"damaged.*recover"), storage_errors(url):
            trials_in(open_reader(url))

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_errors_that_cannot_be_provoked(self, url: str, wrapped: bool) -> None:
        driver = OperationalError(
            "INSERT", {"reason": "database is locked"}, sqlite3.OperationalError("disk I/O error")
        )
        with pytest.raises(StorageError, match="disk I/O error; check the disk"), storage_errors(url):
            if wrapped:
                raise StorageInternalError("An exception is raised during the commit.") from driver
            raise driver

    def test_unknown_errors_are_shown_without_secrets(self) -> None:
        url = "postgresql://u:s3cr3t@h/n?sslkey=k3y"
        with (
            pytest.raises(StorageError, match=r"postgresql://u:\*\*\*@h/n\?sslkey=\*\*\*: odd: \*\*\* and \*\*\*"),
            storage_errors(url),
        ):
            raise OperationalError("", None, Exception("odd: s3cr3t and k3y"))

    def test_other_errors_pass(self, url: str) -> None:
        with pytest.raises(KeyError), storage_errors(url):
            raise KeyError("a bug")

    def test_a_study_that_was_deleted(self, url: str, path: Path) -> None:
        make(url)
        storage = open_writer(url)
        with (
            pytest.raises(StudyNotFound, match=f"the study was deleted from {path} while it was in use"),
            storage_errors(url),
        ):
            storage.get_all_trials(99)

    def test_another_runtime_error_is_not_a_version_error(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before Python 3.12, an interrupt within a class statement of an import raises such an error."""

        def fail(*_args: object, **_options: object) -> None:
            raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

        make(url)
        monkeypatch.setattr(subject, "RDBStorage", fail)
        with pytest.raises(RuntimeError, match="__set_name__"):
            subject.open_outdated(url)


class SQLiteRaceTests:
    @pytest.mark.slow
    def test_four_processes_create(self, url: str) -> None:
        race(url)


class PostgreSQLTests:
    @pytest.fixture
    def url(self, new_postgres: Callable[[], str]) -> str:
        return resolve_url(new_postgres())

    @pytest.mark.slow
    def test_writes_and_reads(self, url: str) -> None:
        with pytest.raises(StorageError, match="holds no studies"):
            open_reader(url)
        make(url)
        reader = open_reader(url)
        assert trials_in(reader) == 1
        with pytest.raises(StorageError, match="cannot be written"), storage_errors(url):
            optuna.load_study(storage=reader, study_name="s").set_user_attr("a", 1)

    @pytest.mark.slow
    def test_four_processes_create(self, url: str) -> None:
        race(url)

    def test_a_password_with_braces(self, url: str) -> None:
        """Optuna takes the URL as a template and would fill in the text between the braces."""
        braced = url.replace("postgres:@", "postgres:p{w}d@")
        assert braced != url
        make(braced)
        assert trials_in(open_reader(braced)) == 1

    def test_no_such_database(self, url: str) -> None:
        with pytest.raises(StorageError, match=r"no database at .*createdb"):
            open_writer(url.replace("/db", "/missing"), create=True)

    @pytest.fixture
    def role(self, postgres_server: Any) -> Iterator[str]:
        """Create a database user who needs a password, unlike the other users of this server."""
        rules = Path(postgres_server.pgdata) / "pg_hba.conf"
        trusting = rules.read_text()
        postgres_server.psql("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        rules.write_text("local all guarded scram-sha-256\n" + trusting)
        postgres_server.psql("SELECT pg_reload_conf()")
        yield "guarded"
        rules.write_text(trusting)
        postgres_server.psql("SELECT pg_reload_conf()")

    @pytest.mark.parametrize("given", ["guarded:s3cr3t%40word@", "guarded@"])
    def test_a_wrong_password(self, url: str, role: str, given: str) -> None:
        assert role in given
        with pytest.raises(StorageError, match="refuses the user or the password") as caught:
            open_writer(url.replace("postgres:@", given), create=True)
        one_line(caught.value)

    def test_a_lost_connection(self, url: str) -> None:
        make(url)
        storage = open_writer(url)
        end = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        other = open_writer(url)
        with (
            pytest.raises(StorageError, match="was lost; check the server"),
            storage_errors(url),
            storage.engine.connect() as held,
        ):
            held.execute(text("SELECT 1"))
            run(other, end.text)
            held.execute(text("SELECT 1"))
        run(other, end.text)
        assert trials_in(storage) == 1  # a connection that died between two transactions is made anew


def test_a_database_that_was_removed_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for other in (None, b""):
        path.write_bytes(b"")
        file = DatabaseFile(resolve_url(str(path)))
        file.require_unchanged()
        path.rename(tmp_path / "kept")  # so that its number is not given to another file
        if other is not None:
            path.write_bytes(other)
        with pytest.raises(StorageError, match=r"was removed|was replaced by another"):
            file.require_unchanged()
    DatabaseFile("postgresql://nobody@nowhere/nothing").require_unchanged()
