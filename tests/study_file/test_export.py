"""Exported configurations: the file gives the same values, damage is one line, other files are not overwritten."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.errors import ExportError, MachineError
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.export import Export
from mtsearch.study_file.tasks import TaskSection
from tests.helpers.exports import made

pytestmark = pytest.mark.quick

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def write(folder: Path, text: str) -> Path:
    path = folder / "best.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """Return the message about a damaged file, which must be one line that begins with its path."""
    with pytest.raises(ExportError) as error:
        Export.load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text and len(text) < 400
    return text.removeprefix(f"{path}: ")


class RoundTripTests:
    def test_equal(self, tmp_path: Path) -> None:
        path = made().save(tmp_path / "best.toml")
        assert path == tmp_path / "best.toml"
        assert Export.load(path) == made()
        assert Export.load(str(path)).config.learning_rate == 1e-05

    @given(study=TEXT, pick=TEXT, number=st.floats(allow_nan=False), params=st.dictionaries(TEXT, st.booleans() | TEXT))
    def test_whatever_text_and_number(
        self, study: str, pick: str, number: float, params: dict[str, bool | str]
    ) -> None:
        export = made(study=study, pick=pick, metrics={"rmse": number}, params=params)
        assert Export.model_validate(tomllib.loads(export.to_toml())) == export

    def test_any_configuration(self) -> None:
        """Every number of the config keeps its last bit and every field is in the file."""
        table = tomllib.loads(made().to_toml())["config"]
        assert set(table) == set(TrialConfig.model_fields) - {
            "losses", "weights", "sharing", "experts", "unobserved_weight",
            "elementwise_product",
        }  # fmt: skip
        assert table["retrieval_weight"] == 1 / 3

    def test_several_tasks(self, tmp_path: Path) -> None:
        tasks = {
            "view": TaskSection(kind="retrieval", where="event = 'view' -- \"all\""),
            "stars": TaskSection(kind="rating", target="stars"),
            "returned": TaskSection(kind="label", target="returned"),
        }
        config = TrialConfig(losses="normalized", weights={"view": 1 / 3, "stars": 0.0}, sharing="experts", experts=3)
        keys = ["view.top_100", "stars.rmse", "returned.auc"]
        export = made(objectives=keys, metrics=dict.fromkeys(keys, 0.1 + 0.2)).model_copy(
            update={"tasks": tasks, "config": config}
        )
        loaded = Export.load(export.save(tmp_path / "best.toml"))
        assert loaded == export
        assert list(loaded.tasks) == list(tasks)
        assert loaded.config.weight_of("view", "retrieval") == 1 / 3
        table = tomllib.loads(export.to_toml())["config"]
        assert not {"rating_weight", "retrieval_weight"} & table.keys()
        assert max(map(len, export.to_toml().splitlines())) <= 120

    def test_without_tasks_the_text_is_as_ever(self) -> None:
        text = made().to_toml()
        assert not re.search(r"task|losses|weights|sharing|experts", re.sub("#.*", "", text))

    def test_is_readable(self) -> None:
        lines = made().to_toml().splitlines()
        assert lines[0].startswith("# ")
        assert "format = 1" in lines
        assert [line for line in lines if line.startswith("[")] == [
            "[config]", "[data]", "[split]", "[provenance]",
            "[provenance.metrics]  # Validation metrics of the trial",
            "[provenance.params]  # Values that the search set; the rest was fixed or a default",
            "[provenance.packages]  # Versions of the packages that trained it",
        ]  # fmt: skip
        assert max(map(len, lines)) <= 120
        assert "embedding_size = 64  # D, the size of an embedding of a user or an item" in lines

    def test_edited_by_hand(self, tmp_path: Path) -> None:
        """A whole number may stand for a float, and keys that are left out, also newer ones, have their defaults."""
        text = made().to_toml()
        kept = [line for line in text.splitlines() if not line.startswith(("hidden_layers", "patience", "test ="))]
        path = write(tmp_path, "\n".join(kept).replace("learning_rate = 1e-05", "learning_rate = 1"))
        loaded = Export.load(path)
        assert loaded.config == made().config.model_copy(update={"learning_rate": 1.0, "hidden_layers": "256-128"})
        assert loaded.split == made().split

    def test_frozen(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            made().config = TrialConfig()


class DamageTests:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("embedding_size =", "embeding_size =", "unknown key 'config.embeding_size' (did you mean 'emb"),
            ("[split]", "[splitt]", "unknown key 'splitt' (did you mean 'split'?)"),
            ("embedding_size = 64", "embedding_size = 0", "config.embedding_size: "),
            ("embedding_size = 64", 'embedding_size = "64"', "config.embedding_size: "),
            ("learning_rate = 1e-05", "learning_rate = nan", "config.learning_rate: nan is not a finite number"),
            ("rating_weight = 1.0", "rating_weight = -1.0", "config.rating_weight: "),
            ('monitor = "rmse"', 'monitor = "rsme"', "config.monitor: "),
            ('objectives = ["rmse", "top_100"]', "objectives = []", "provenance.objectives"),
            ('objectives = ["rmse", "top_100"]', 'objectives = ["a", "b", "c", "d", "e"]', "provenance.objectives"),
            ("trial = 17", "", "provenance.trial is missing: add it"),
            ("format = 1", "format = 2", "format 2 was made by a newer mtsearch; upgrade mtsearch"),
            ("format = 1", "", "format is missing, so it is not an export of mtsearch"),
            ("format = 1", 'format = "one"', "format = 'one' is not a valid format"),
            ("format = 1", "format = true", "format = true is not a valid format"),
            ("format = 1", "format = 0", "format = 0 is not a valid format"),
            ("format = 1", "format =", "not TOML: "),
            ("format = 1", "format = " + "9" * 5000, "cannot be read"),
            ("[data]", "[data", "not TOML: "),
        ],
    )  # fmt: skip
    def test_place_and_cause(self, tmp_path: Path, old: str, new: str, said: str) -> None:
        text = made().to_toml()
        assert old in text
        assert said in refusal(write(tmp_path, text.replace(old, new, 1)))

    def test_of_several_the_first(self, tmp_path: Path) -> None:
        text = made().to_toml().replace("embedding_size = 64", "embedding_size = 0").replace("epochs = 3", "epochs = 0")
        assert refusal(write(tmp_path, text)).endswith("(and 1 more)")

    def test_no_text(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "gone.toml").startswith("no such file; ")
        assert refusal(tmp_path).startswith("not a file; ")
        path = tmp_path / "best.toml"
        path.write_bytes(b"\xff\xfe")
        assert refusal(path).startswith("not UTF-8 text; ")

    @pytest.mark.parametrize("cut", [0.0, 0.3, 0.6, 0.9])
    def test_cut_off(self, tmp_path: Path, cut: float) -> None:
        text = made().to_toml()
        assert refusal(write(tmp_path, text[: int(len(text) * cut)]))


class SavingTests:
    def test_makes_the_folder_and_leaves_nothing_aside(self, tmp_path: Path) -> None:
        path = made().save(tmp_path / "picks" / "best.toml")
        assert [each.name for each in path.parent.iterdir()] == ["best.toml"]

    @pytest.mark.parametrize("change", ["nothing", "values", "format"])
    def test_an_export_is_replaced(self, tmp_path: Path, change: str) -> None:
        """An existing export is replaced even if an edit or a newer format made it unreadable."""
        path = made().save(tmp_path / "best.toml")
        changed = {"values": ("epochs = 3", "epochs = 0"), "format": ("format = 1", "format = 2")}
        if change in changed:
            path.write_text(path.read_text().replace(*changed[change]))
        made(trial=3).save(path)
        assert Export.load(path).provenance.trial == 3

    @pytest.mark.parametrize("text", ["", "precious", '[study]\nname = "mine"\n', "format = 1\n", "\0\1"])
    def test_anything_else_is_not(self, tmp_path: Path, text: str) -> None:
        path = write(tmp_path, text)
        with pytest.raises(ExportError, match="already exists and is not an export of mtsearch; name another file"):
            made().save(path)
        assert path.read_text() == text
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="is a folder; name a file in it"):
            made().save(tmp_path)

    def test_a_link_stays_one(self, tmp_path: Path) -> None:
        target = made().save(tmp_path / "real.toml")
        link = tmp_path / "best.toml"
        link.symlink_to(target)
        made(trial=3).save(link)
        assert link.is_symlink()
        assert Export.load(target).provenance.trial == 3

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises((MachineError, ExportError), match=r"cannot write|no export"):
            made().save(tmp_path / "file" / "best.toml")
        assert [each.name for each in tmp_path.iterdir()] == ["file"]

    def test_an_error_on_the_way_keeps_the_old_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = made().save(tmp_path / "best.toml")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(MachineError, match="No space left on device"):
            made(trial=3).save(path)
        assert os.listdir(tmp_path) == ["best.toml"]  # noqa: PTH208
        assert Export.load(path).provenance.trial == 17
