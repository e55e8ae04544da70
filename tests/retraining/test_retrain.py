"""Tests of `mtsearch.retrain` as a function: its trainings, their rows, and the files that it writes."""

import io
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from mtsearch import Export, TrialConfig, retrain
from mtsearch.api import load_model
from mtsearch.cli.retrain import retrained_table
from mtsearch.data import load, make_split, undivided
from mtsearch.errors import DefinitionError, MachineError, ModelError, NonFiniteLoss
from mtsearch.evaluation import evaluate_baselines
from mtsearch.metrics import METRICS
from mtsearch.models import Device, JointTrainer
from mtsearch.models.trainer import EpochMetrics
from mtsearch.retraining.members import require_memory_for
from mtsearch.retraining.model_dir import model_card, resolve_target, retraining_verdict, write_folder
from mtsearch.retraining.retrain import Retrained
from mtsearch.serving import ServedModel
from mtsearch.study_file.export import Provenance
from mtsearch.study_file.sections import DataSection, SplitSection
from tests.helpers.fixtures import small_data
from tests.helpers.model_cases import THREADS, go_on

CONFIG = TrialConfig(epochs=4, batch_size=64, embedding_size=8, retrieval_loss="full", learning_rate=0.3)


Told = tuple[Retrained, list[tuple[int, int]]]


def exported(folder: Path, device: Device | None, config: TrialConfig = CONFIG, **split: Any) -> Export:
    """Return the export of a trial of `config` on small data; without a device, of a trial that never was."""
    data, section = DataSection(source=small_data(folder)), SplitSection(**split)
    interactions = load(data)
    divided = make_split(interactions, section)
    metrics, best_epoch = dict.fromkeys(METRICS, 0.5), config.epochs
    if device:
        result = JointTrainer(divided, device).train(config, go_on)
        metrics, best_epoch = dict(result.metrics), result.best_epoch
    provenance = Provenance(
        study="s", trial=5, pick="knee", objectives=("rmse", "top_10"), best_epoch=best_epoch, study_seed=1,
        data_fingerprint=interactions.fingerprint, split_fingerprint=divided.fingerprint, threads=THREADS,
        exported=datetime.now(UTC), exported_by="0", metrics=metrics,
    )  # fmt: skip
    return Export(config=config, data=data, split=section, provenance=provenance)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory, device: Device) -> Export:
    return exported(tmp_path_factory.mktemp("exported"), device)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture(scope="module")
def plain(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    """Return the export's model, trained by one seed, which tests only read."""
    return retrain(export, tmp_path_factory.mktemp("plain") / "m")


@pytest.fixture(scope="module")
def told_two(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return the same of two seeds, and the seeds and epochs that were told meanwhile."""
    told: list[tuple[int, int]] = []
    folder = tmp_path_factory.mktemp("two") / "m"
    return retrain(export, folder, seeds=2, on_epoch=lambda seed, epoch: told.append((seed, epoch.epoch))), told


@pytest.fixture(scope="module")
def of_members(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return two models of three members, and the seeds and epochs that were told meanwhile."""
    told: list[tuple[int, int]] = []
    folder = tmp_path_factory.mktemp("members") / "m"
    result = retrain(export, folder, seeds=2, members=3, on_epoch=lambda seed, epoch: told.append((seed, epoch.epoch)))
    return result, told


@pytest.fixture(scope="module")
def on_train(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    """Return the same, trained on the training rows alone."""
    return retrain(export, tmp_path_factory.mktemp("train") / "m", on="train")


@pytest.mark.slow
def test_train_repeats_the_trial(export: Export, on_train: Retrained) -> None:
    assert {key: interval.mean for key, interval in on_train.validation.items()} == export.provenance.metrics
    assert list(retraining_verdict(on_train))[-1].endswith("to the last bit")


@pytest.mark.slow
def test_patience_ends_at_the_best_epoch(tmp_path: Path, device: Device, models: Path) -> None:
    """RMSE rises from some epoch on; the schedule keeps the length that it had in the trial."""
    config = CONFIG.model_copy(
        update={"epochs": 60, "patience": 3, "schedule": "cosine", "hidden_dropout": 0.1, "batch_size": 32}
    )
    export = exported(tmp_path, device, config)
    assert export.provenance.best_epoch < 60
    result = retrain(export, models / "m", on="train")
    assert result.epochs == len(result.curve) == export.provenance.best_epoch
    assert {key: interval.mean for key, interval in result.validation.items()} == export.provenance.metrics


@pytest.mark.slow
def test_a_trial_that_was_evaluated_on_some_users_is_repeated_and_then_evaluated_on_all(
    tmp_path: Path, device: Device, models: Path
) -> None:
    export = exported(tmp_path, device, validation_users=9)
    again = retrain(export, models / "m", on="train")
    assert {key: interval.mean for key, interval in again.validation.items()} == export.provenance.metrics
    whole = make_split(load(export.data), SplitSection())
    final = retrain(export, models / "m")
    trainer = JointTrainer(whole.final(), device)
    assert {key: interval.mean for key, interval in final.test.items()} == trainer.train(CONFIG, go_on).metrics
    assert final.rows == {"train": len(whole.train) + len(whole.validation), "test": len(whole.test)}
    assert "the validation rows of 9 users" in model_card(final)


@pytest.mark.slow
def test_train_and_validation_is_what_a_trainer_of_both_reaches(export: Export, models: Path, device: Device) -> None:
    result = retrain(export, models / "m", seeds=3)
    final = make_split(load(export.data), export.split).final()
    trainer = JointTrainer(final, device)  # judges on the test rows after every epoch
    for number, seed in enumerate((42, 43, 44)):
        expected = trainer.train(CONFIG.model_copy(update={"seed": seed}), go_on).metrics
        assert {key: interval.values[number] for key, interval in result.test.items()} == expected
    assert result.baselines == evaluate_baselines(final, final.test)
    assert result.validation == {}
    assert all(epoch.metrics == {} for epoch in result.curve)


@pytest.mark.slow
def test_the_saved_model_is_the_first_seeds(plain: Retrained, told_two: Told) -> None:
    import tensorflow as tf

    results = plain, told_two[0]
    one, two = (tf.saved_model.load(str(result.folder / "1")).signatures["predict"] for result in results)
    pair = {"user_id": tf.constant(["1", "2"]), "item_id": tf.constant(["Film 3 (1990)", "Film 4 (1990)"])}
    np.testing.assert_array_equal(one(**pair)["ratings"], two(**pair)["ratings"])


@pytest.mark.slow
def test_members_are_the_mean_of_what_is_trained_alone(export: Export, of_members: Told, tmp_path: Path) -> None:
    """Models of seeds 42 to 44 as one: NumPy's mean of the three that are retrained and loaded one by one."""
    result, _ = of_members
    whole = make_split(load(export.data), export.split)
    users, items = list(whole.user_ids[whole.test.users]), list(whole.item_ids[whole.test.items])
    asked = [*whole.user_ids, "nobody"]
    scores, ratings = [], []
    for seed in (42, 43, 44):
        config = export.config.model_copy(update={"seed": seed})
        alone = load_model(retrain(export.model_copy(update={"config": config}), tmp_path / str(seed)).folder)
        scores.append(scores_of(alone, asked))
        ratings.append(alone.predict(users, items).ratings)
    together, size = load_model(result.folder), len(whole.catalogue)
    assert together.info.catalogue == size
    np.testing.assert_allclose(scores_of(together, asked), np.mean(scores, axis=0), rtol=0, atol=1e-5)
    # Where no member is limited to the range of the ratings, the mean is not either.
    inside = ((np.array(ratings) > 1) & (np.array(ratings) < 5)).all(axis=0)
    assert inside.mean() > 0.5
    found = together.predict(users, items).ratings
    np.testing.assert_allclose(found[inside], np.mean(ratings, axis=0)[inside], rtol=0, atol=1e-5)
    truth = whole.test.ratings.astype(np.float64)
    expected = float(np.sqrt(np.mean((found - truth) ** 2)))
    assert result.test["rmse_clipped"].values[0] == pytest.approx(expected, abs=1e-6)


def scores_of(model: ServedModel, users: list[str]) -> NDArray[np.float32]:
    """Return the scores `[B, C]` of the catalogue, in the order of its ids."""
    found = model.recommend(users, model.info.catalogue, exclude_seen=False)
    return np.take_along_axis(found.scores, np.argsort(found.items.astype(str), axis=1), axis=1)


@pytest.mark.slow
def test_each_model_of_members_is_evaluated_as_one(export: Export, of_members: Told, device: Device) -> None:
    result, told = of_members
    assert (result.seeds, result.members, result.groups) == ((*range(42, 48),), 3, [(42, 43, 44), (45, 46, 47)])
    assert told == [(seed, epoch) for seed in (45, 46, 47, 42, 43, 44) for epoch in (1, 2, 3, 4)]
    final = make_split(load(export.data), export.split).final()
    trainer = JointTrainer(final, device, validate=False)
    for number, group in enumerate(result.groups):
        for place, seed in enumerate(group):
            if place:
                trainer.keep()
            trained = trainer.train(CONFIG.model_copy(update={"seed": seed}), go_on)
            if seed == 42:
                assert [epoch.losses for epoch in result.curve] == [epoch.losses for epoch in trained.curve]
        assert {key: interval.values[number] for key, interval in result.test.items()} == trainer.evaluate(final.test)
    trainer.train(CONFIG, go_on)
    assert result.test["rmse"].values[0] != trainer.evaluate(final.test)["rmse"]  # of the first seed alone


@pytest.mark.slow
def test_the_folder_of_members_says_so(of_members: Told, plain: Retrained) -> None:
    result, _ = of_members
    metrics, model = (json.loads((result.folder / name).read_text()) for name in ("metrics.json", "model.json"))
    assert (metrics["members"], metrics["seeds"]) == (3, [42, 43, 44, 45, 46, 47])
    assert len(metrics["test"]["rmse"]["values"]) == 2
    assert (model["members"], model["seeds"], model["format"]) == (3, [42, 43, 44], 1)
    card = model_card(result)
    assert "4 epochs, seeds 42, 43 and 44, on" in card and "one model of 3 members" in card
    assert "Seeds: 42-43-44 and 45-46-47; mean and 95 % interval" in card
    single = json.loads((plain.folder / "model.json").read_text())
    assert (single["members"], single["seeds"]) == (1, [42])
    assert "seed 42, on" in model_card(plain) and "member" not in model_card(plain)
    Console(width=100, file=(file := io.StringIO())).print(retrained_table(result))
    assert "4 epochs, 2 models of 3 members" in file.getvalue() and "mean over models" in file.getvalue()


@pytest.mark.slow
def test_members_on_train_are_validated_as_one(export: Export, models: Path, device: Device) -> None:
    result = retrain(export, models / "m", members=2, on="train")
    split = make_split(load(export.data), export.split)
    trainer = JointTrainer(split, device)
    trainer.train(CONFIG, go_on)
    trainer.keep()
    trainer.train(CONFIG.model_copy(update={"seed": 43}), go_on)
    assert {key: interval.mean for key, interval in result.validation.items()} == trainer.evaluate(split.validation)
    assert not result.repeats_the_trial
    assert not any("trial" in line for line in retraining_verdict(result))


@pytest.mark.slow
def test_members_on_all_rows(export: Export, models: Path) -> None:
    result = retrain(export, models / "m", members=2, on="all")
    assert not result.test and not result.validation and result.seeds == (42, 43)
    assert load_model(result.folder).predict(["1", "nobody"], ["nothing", "nothing"]).known_users.tolist() == [
        True, False,
    ]  # fmt: skip


@pytest.mark.slow
def test_an_interrupted_member_leaves_nothing(export: Export, models: Path) -> None:
    def interrupt(seed: int, _epoch: EpochMetrics) -> None:
        if seed == 43:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(export, models / "m", members=3, on_epoch=interrupt)
    assert not models.exists()


def test_members_that_do_not_fit(export: Export, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 users and 30 items with their unknown ones: 2 tasks of 72 rows of 8 and a bias, in 2 copies of 4 bytes."""
    of_one = 2 * 4 * 2 * 72 * 9
    for name, value in (("visible_gpus", lambda: ()), ("free_memory", lambda: 7 * of_one)):
        monkeypatch.setattr(f"mtsearch.retraining.members.{name}", value)
    split = make_split(load(export.data), export.split)
    require_memory_for(7, CONFIG, split)
    with pytest.raises(MachineError, match=r"the tables of 8 members take .* are free; give at most 7 members"):
        retrain(export, models, members=8, on_epoch=lambda *_: pytest.fail("nothing is trained"))
    assert not models.exists()


@pytest.mark.slow
def test_all_trains_on_every_row(export: Export, models: Path, device: Device) -> None:
    result = retrain(export, models / "m", on="all")
    assert result.rows == {"train": len(load(export.data).rows), "test": 0}
    assert not result.test and not result.validation and not result.baselines
    expected = JointTrainer(undivided(load(export.data)), device, validate=False).train(CONFIG, go_on)
    assert [epoch.losses for epoch in result.curve] == [epoch.losses for epoch in expected.curve]
    assert "No rows were left" in model_card(result)


@pytest.mark.slow
def test_a_study_that_validates_on_test_says_so(tmp_path: Path, models: Path) -> None:
    result = retrain(exported(tmp_path, None, validation="test"), models / "m")
    assert "chosen on them" in model_card(result)


@pytest.mark.slow
def test_every_epoch_is_told(told_two: Told) -> None:
    assert told_two[1] == [(seed, epoch) for seed in (43, 42) for epoch in (1, 2, 3, 4)]


@pytest.mark.slow
def test_what_ends_it_early_leaves_nothing(export: Export, models: Path) -> None:
    def interrupt(_seed: int, epoch: EpochMetrics) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(export, models / "m", on_epoch=interrupt)
    diverging = export.model_copy(
        update={"config": CONFIG.model_copy(update={"learning_rate": 1e3, "optimizer": "sgd", "epochs": 50})}
    )
    with pytest.raises(NonFiniteLoss):
        retrain(diverging, models / "m")
    assert not models.exists()


@pytest.mark.slow
def test_a_failed_write_keeps_the_earlier_model(plain: Retrained, models: Path) -> None:
    result = replace(plain, folder=Path(shutil.copytree(plain.folder, models / "m")))
    before = {path.name: path.read_bytes() for path in result.folder.iterdir() if path.is_file()}

    def full(folder: Path) -> None:
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineError, match="No space left on device"):
        write_folder(result, full)
    with pytest.raises(MachineError, match="No space left on device"):
        write_folder(replace(result, folder=models / "deep" / "er" / "new"), full)
    assert [path.name for path in models.iterdir()] == ["m"]
    assert {path.name: path.read_bytes() for path in result.folder.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_what_came_there_meanwhile_is_kept(plain: Retrained, models: Path) -> None:
    models.mkdir()
    place = models / "new"

    def save(folder: Path) -> None:
        folder.mkdir()
        place.mkdir()
        (place / "thesis.tex").write_text("dear")

    with pytest.raises(ModelError, match="not a model folder"):
        write_folder(replace(plain, folder=place), save)
    assert (place / "thesis.tex").read_text() == "dear"
    assert {path.name for path in models.iterdir()} == {"new"}


def test_places(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert resolve_target(tmp_path / "link") == tmp_path / "empty"
    assert resolve_target(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


def test_arguments(export: Export, models: Path) -> None:
    with pytest.raises(DefinitionError, match="seeds = 0: at least one is needed; give 1 or more"):
        retrain(export, models, seeds=0)
    for members in (0, 101):
        with pytest.raises(DefinitionError, match=f"members = {members}; give 1 to 100"):
            retrain(export, models, members=members)
    with pytest.raises(DefinitionError, match="no rows are left"):
        retrain(export, models, seeds=2, on="all")


@pytest.mark.slow
def test_what_is_shown(export: Export, told_two: Told) -> None:
    result, _ = told_two
    Console(width=100, file=(file := io.StringIO())).print(retrained_table(result))
    text = file.getvalue()
    rmse, biases = result.test["rmse"], result.baselines["biases"]["rmse"]
    (line,) = [line for line in text.splitlines() if line.strip().startswith("RMSE (stars)")]
    assert f"{rmse.mean:.4f} ±{rmse.high - rmse.mean:.4f}" in line and f"{biases:.4f}" in line
    assert f"{export.provenance.metrics['rmse']:.4f}" in line
    first, second, third = map(text.index, ("RMSE (stars)", "top-10 accuracy", "RMSE, clipped"))
    assert first < second < third  # the objectives lead
    better = {True: "beats", False: "does not beat"}
    best = min(result.baselines, key=lambda name: result.baselines[name]["rmse"])
    beats = rmse.mean < result.baselines[best]["rmse"]
    assert (
        next(iter(retraining_verdict(result))).split(" (")[0]
        == f"test RMSE {rmse.mean:.4g} stars: {better[beats]} {best}"
    )


@pytest.mark.slow
def test_a_trial_that_is_not_repeated_is_said_to_differ(export: Export, on_train: Retrained) -> None:
    other = export.provenance.model_copy(update={"metrics": {**export.provenance.metrics, "rmse": 0.5}})
    said = list(retraining_verdict(replace(on_train, export=export.model_copy(update={"provenance": other}))))[-1]
    assert said.startswith("validation metrics: 1 of 11 differ from the trial's (rmse: 0.5 -> ")


def test_names_that_markdown_would_read(export: Export, plain: Retrained) -> None:
    named = export.provenance.model_copy(update={"study": "a`b|c\n# d"})
    card = model_card(replace(plain, export=export.model_copy(update={"provenance": named})))
    assert "study `a'b/c # d`" in card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({}, "drawn at random, so that later ratings helped to predict earlier ones"),
        ({"method": "temporal"}, "the latest of all"),
        ({"method": "leave_last"}, "the last of each user, so that later ratings of other users helped"),
    ],
)
def test_the_card_says_how_rows_were_held_out(tmp_path: Path, models: Path, split: dict[str, Any], said: str) -> None:
    card = model_card(retrain(exported(tmp_path, None, **split), models / "m"))
    assert "- Claims beyond the protocol: held-out rows " in card and said in card


@pytest.mark.slow
def test_the_card_says_who_trained_and_who_chose(export: Export, plain: Retrained) -> None:
    named = export.provenance.model_copy(update={"pick": "trial:5", "exported_by": "0.0.0"})
    card = model_card(replace(plain, export=export.model_copy(update={"provenance": named})))
    assert f"Trained by mtsearch {version('mtsearch')} on" in card
    assert "Trial 5 of study `s`, named by its number." in card
    assert "picked by `knee` from its Pareto front of RMSE and top-10 accuracy." in model_card(plain)
    for keys, said in [
        (("rmse",), "picked by `knee` as the best in RMSE."),
        (("rmse", "mae", "mrr"), "picked by `knee` from its Pareto front of RMSE, MAE and MRR."),
    ]:
        searched = export.provenance.model_copy(update={"objectives": keys})
        assert said in model_card(replace(plain, export=export.model_copy(update={"provenance": searched})))


@pytest.mark.slow
def test_json_is_plain(plain: Retrained, told_two: Told, on_train: Retrained) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for result in (plain, told_two[0], on_train):
        assert isinstance(result, Retrained)
        for name in ("metrics.json", "curve.json", "model.json"):
            json.loads((result.folder / name).read_text(encoding="utf-8"), parse_constant=refuse)
