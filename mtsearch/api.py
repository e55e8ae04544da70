"""The functions behind the commands, for use from Python: `from mtsearch import run`.

Each command of `mtsearch` has its function here. Options that the commands share are explained in the manual.
Modules are imported inside the functions that need them: `mtsearch recommend` must not wait for Optuna.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtsearch.errors import DefinitionError
from mtsearch.study_file.definition import DEFAULT, StudyDefinition

if TYPE_CHECKING:
    from mtsearch.data import Interactions, Split
    from mtsearch.evaluation.strong_baselines import Watcher as BaselineWatcher
    from mtsearch.executors import Resources, Workers
    from mtsearch.models.trainer import MakeTrainer
    from mtsearch.report import Study
    from mtsearch.report.comparison import Comparison
    from mtsearch.report.test_report import TestReport
    from mtsearch.retraining import On, Retrained
    from mtsearch.retraining.evaluate_front import Begun, Listener, MakeTestingTrainer, Watcher
    from mtsearch.retraining.retrain import Watcher as EpochWatcher
    from mtsearch.search.run import Observer
    from mtsearch.search.selection import Selection
    from mtsearch.serving import Predictions, Recommendations, ServedModel
    from mtsearch.serving.bulk import BulkCount
    from mtsearch.study_file.export import Export

Storage = str | PathLike[str] | None
"""The URL or the path of a storage; None means `MTSEARCH_STORAGE`, else `studies/mtsearch.db` in the current folder."""

_logger = logging.getLogger("mtsearch")


# The manual


def guide_topics() -> dict[str, str]:
    """Return the topics of the manual in reading order, each with the title of its page."""
    from mtsearch import guide as manual

    return manual.guide_topics()


def guide(topic: str) -> str:
    """Return the manual's page on a topic as Markdown.

    Raises:
        ValueError: the manual has no such topic; the message names the nearest one.
    """
    from mtsearch import guide as manual

    return manual.guide(topic)


# A study file and its data


def load_definition(
    source: str | None = None, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> StudyDefinition:
    """Read a study file and return its definition.

    Args:
        source: the path of the file, or the name of a shipped one; None reads the shipped default.
        overrides, values: see `StudyDefinition.load`.

    Raises:
        DefinitionError: the file cannot be read, or a value in it is wrong.
    """
    return StudyDefinition.load(source or DEFAULT, overrides, values)


def load_stored_definition(
    study: str, storage: Storage = None, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> StudyDefinition | None:
    """Return the definition that a study was begun with, read from the storage; None if there is no such study.

    Args:
        study: the study's name.
        storage: URL or path.
        overrides, values: see `StudyDefinition.load`.
    """
    from mtsearch.search.run import stored_definition
    from mtsearch.search.storage.url import resolve_url
    from mtsearch.study_file.load import apply_overrides

    raw = stored_definition(resolve_url(storage), study)
    if raw is None:
        return None
    apply_overrides(raw, [overrides] if isinstance(overrides, str) else overrides, values or {})
    return StudyDefinition.from_mapping(raw, origin=f"study {study}")


def init(file: str | PathLike[str], data: str | None = None) -> None:
    """Write a commented study file to start from; the study is named after the file, and no file is overwritten.

    Args:
        file: to be written.
        data: a source of ratings, as [data] takes it, to be searched on; it is read first.

    Raises:
        DataError: the data cannot be read.
        DefinitionError: the file exists already, or its name cannot be the name of a study.
        MachineError: the file cannot be written.
    """
    from mtsearch.study_file.schema import write_template

    changes: dict[str, Any] = {}
    if data is not None:
        definition = StudyDefinition.load(DEFAULT, (), {"data.source": data})
        changes["source"] = definition.data.source
        if describe_data(definition)["read"]["feedback"] == "binary":  # there is no rating to predict
            changes["objectives"] = ["top_100", "mrr"]
    write_template(Path(file), changes)


def prepare(definition: StudyDefinition) -> tuple[Interactions, Split]:
    """Load the definition's ratings and split them; log warnings of what makes a metric easy or the same for all.

    Raises:
        DataError: the ratings cannot be found, read or used.
    """
    from mtsearch.data import load, make_split
    from mtsearch.data.doubts import tell_of_split

    interactions = load(definition.data, definition.split, definition.tasks)
    split = make_split(interactions, definition.split, definition.tasks)
    tell_of_split(split, definition.split)
    # With no more items than K, every item is among the first K, and a metric at K says nothing.
    for key in definition.study.objectives:
        if len(split.catalogue) <= (definition.metrics[key].hits_within or 0):
            _logger.warning(
                "%s is the same for every model, because the catalogue has only %d items; "
                "choose another objective under [study], such as ndcg_10 or mrr",
                key,
                len(split.catalogue),
            )
    return interactions, split


def check(definition: StudyDefinition) -> dict[str, Any]:
    """Check that a definition can be run, and describe its space, fixed values, data and rough time per trial.

    No trial is run.

    Raises:
        MtsearchError: the definition cannot be run; see `mtsearch.errors`.
    """
    from mtsearch.models.cost import describe_study, require_memory
    from mtsearch.study_file.sections import require_packages

    if definition.space:
        require_packages(definition.study.sampler)
    interactions, split = prepare(definition)
    require_memory(definition, len(split.user_ids), len(split.candidates))
    return describe_study(definition, interactions, split)


def is_own_table(name: str) -> bool:
    """Tell whether a name is the path of a table, folder or zip, and not that of a study file or a shipped study."""
    from mtsearch.study_file.load import shipped

    path = Path(name)
    if name in shipped() or path.suffix.lower() == ".toml":
        return False
    return path.is_dir() or bool(path.suffix and path.exists()) or any(sign in name for sign in "*?[")


def describe_data(definition: StudyDefinition) -> dict[str, Any]:
    """Describe how the definition's ratings were read, which rows were dropped, and the parts of their split."""
    from mtsearch.data.split import describe

    return {"source": definition.data.origin, **describe(*prepare(definition)), "method": definition.split.method}


def default_definition() -> str:
    """Return the name of the shipped definition that commands use if the user names none."""
    return DEFAULT


def baselines(
    definition: StudyDefinition,
    prepared: tuple[Interactions, Split] | None = None,
    *,
    strong: bool = False,
    on_share: BaselineWatcher = lambda _name, _share: None,
) -> dict[str, dict[str, float]]:
    """Evaluate chance, popularity and biases on the validation rows, and return the metrics of each by its name.

    Args:
        definition: the study's definition, which names the ratings and their split.
        prepared: the result of `prepare` for this definition, if it was called already.
        strong: also train implicit ALS for each task of retrieval (`ials`) and a Bayesian factorization machine for
            each task of ratings (`bayesian_fm`), which need `pip install 'mtsearch[reference]'`.
        on_share: called as they are trained, with the name of the training and its finished share, 0..1.

    Returns:
        For each baseline, its metrics by key; a strong one has those of its tasks.

    Raises:
        MachineError: a package of the strong baselines is not installed.
    """
    from mtsearch.evaluation import evaluate_baselines
    from mtsearch.evaluation.strong_baselines import evaluate_strong_baselines, require_reference_packages

    if strong:
        require_reference_packages()
    _, split = prepared or prepare(definition)
    simple = evaluate_baselines(split, split.validation)
    return simple | evaluate_strong_baselines(split, split.validation, on_share) if strong else simple


def add_baselines(
    found: Mapping[str, Mapping[str, float]],
    definition: StudyDefinition,
    prepared: tuple[Interactions, Split] | None = None,
    storage: Storage = None,
) -> None:
    """Store strong baselines with the stored study of a definition, so that its front, plot and page show them.

    Args:
        found: the result of `baselines` for this definition; of the others the study has its own.
        definition: names the study.
        prepared: the result of `prepare` for this definition, if it was called already.
        storage: URL or path.

    Raises:
        StudyNotFound: the storage has no such study.
        StudyMismatch: the study has other data, another split or other tasks.
        StorageError: the storage cannot be written.
    """
    from mtsearch.evaluation.strong_baselines import STRONG_BASELINES
    from mtsearch.search.storage import writing_storage
    from mtsearch.search.storage.url import resolve_url
    from mtsearch.search.study import add_baselines as add_to_study
    from mtsearch.search.study import find_study

    interactions, split = prepared or prepare(definition)
    strong = {name: metrics for name, metrics in found.items() if name in STRONG_BASELINES}
    with writing_storage(resolve_url(storage)) as writer:
        add_to_study(find_study(writer, definition.study.name), strong, definition, interactions, split)


# The search


def run(
    definition: StudyDefinition,
    trials: int | None = None,
    *,
    until: int | None = None,
    timeout: float | None = None,
    patience: int | None = None,
    workers: Workers | None = None,
    ray: str | None = None,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    warm_start: str | None = None,
    storage: Storage = None,
    on_trial: Observer = lambda _: None,
    begun: Callable[[int, int], None] = lambda _done, _until: None,
    make_trainer: MakeTrainer | None = None,
) -> Study:
    """Begin the study of a definition, or go on with it if the storage has it already.

    Args:
        definition: the study file as read: the data, the search space, the objectives.
        trials: how many counting trials to add; by default 50, or the initial trials of a definition without [space].
            A trial counts if it completed, was pruned, or failed for a reason of its own.
        until: in place of `trials`: how many counting trials the study shall have in all.
        timeout: seconds after which no further trial begins.
        patience: number of counting trials in a row without a change of the hypervolume after which the run ends.
        workers: number of trials that train at the same time. 1, the default, trains in this process, and is the only
            number that proposes the same configurations each time. More train in as many processes; they import the
            calling script when they begin, so the call must stand under `if __name__ == "__main__":`. `auto` takes one
            per visible GPU, else one per core as far as the memory reaches; it is the default on a Ray cluster, where
            it takes as many as there is room for.
        ray: address of a Ray cluster whose nodes train: `auto` for the one that this machine belongs to, `local` for
            one that is started here for this run.
        cpus_per_worker: cores of each worker on the Ray cluster, above 0.
        gpus_per_worker: number of GPUs, or share of one, of each worker on the Ray cluster.
        warm_start: name of another study in the storage, whose front is run first when this study is begun.
        storage: URL or path.
        on_trial: called in this process with the `TrialEnd` of every trial that has ended, once the trial is stored. An
            exception in it is logged, and the study goes on. `TrialEnd` shows how to log elsewhere.
        begun: called once with two numbers: the counting trials that the study has, and those that it shall have.
        make_trainer: function that makes a trainer from a split; with several workers it must be a function of a
            module. By default it makes the trainer of the joint model, or of the definition's custom model.

    Returns:
        The study after the run. `interrupted` is true if the user ended the run; `stopped` gives the reason if patience
        or the timeout ended it.

    Raises:
        MtsearchError: see `mtsearch.errors`.
    """
    from mtsearch.executors import RayOptions, allocate, open_executor
    from mtsearch.models.cost import require_memory
    from mtsearch.models.trainer import trainer_factory
    from mtsearch.report import as_study
    from mtsearch.search.run import plan_run, run_study
    from mtsearch.search.storage.url import resolve_url

    if ray is None and (cpus_per_worker, gpus_per_worker) != (1, 0):
        raise DefinitionError(
            "the size of a worker is given, but no Ray cluster: workers of this machine share its cores and GPUs",
            "add --ray, or remove --cpus-per-worker and --gpus-per-worker",
        )
    plan = plan_run(
        resolve_url(storage),
        definition,
        trials,
        until=until,
        timeout=timeout,
        patience=patience,
        warm_start=warm_start,
    )
    make_trainer = make_trainer or trainer_factory(plan.definition, send=ray is not None)
    if ray is not None:
        resources: Resources = RayOptions(ray, "auto" if workers is None else workers, cpus_per_worker, gpus_per_worker)
    else:
        resources = allocate(1 if workers is None else workers)
    interactions, split = prepare(plan.definition)
    if not isinstance(resources, RayOptions):  # of other machines, Ray watches the memory
        require_memory(plan.definition, len(split.user_ids), len(split.candidates), len(resources))
    executor = partial(open_executor, split, resources, make_trainer, plan.definition.study.repeats)
    return as_study(run_study(plan, interactions, split, executor, on_trial, begun))


# What a study holds


def load_study(study: str | None = None, storage: Storage = None, *, importances: bool = False) -> Study:
    """Load the results of a study, by default of the study written last.

    Args:
        study: the study's name; None loads the study written last.
        storage: URL or path.
        importances: also compute the importance of each parameter, which takes a second.

    Raises:
        StorageError: the storage or the study cannot be read.
    """
    from mtsearch.report import as_study
    from mtsearch.search.results import read_full_results, read_results
    from mtsearch.search.storage import reading_storage
    from mtsearch.search.storage.url import resolve_url

    with reading_storage(resolve_url(storage)) as reader:
        return as_study((read_full_results if importances else read_results)(reader, study))


def front(study: str | None = None, storage: Storage = None) -> list[dict[str, Any]]:
    """Return the Pareto front of a study as plain dictionaries: `trial`, each objective by key, `params`, `metrics`."""
    from mtsearch.report.tables import front_rows

    return front_rows(load_study(study, storage))


def plot(study: str | None = None, place: str | PathLike[str] = ".", storage: Storage = None) -> Path:
    """Write one self-contained HTML page about a study and return the path of the page.

    Args:
        study: the study's name; None takes the study written last.
        place: a folder, or a file that ends in .html.
        storage: URL or path.

    Raises:
        MachineError: the page cannot be written.
    """
    from mtsearch.report.page import write_page

    return write_page(
        load_study(study, storage, importances=True), Path(place), None if storage is None else mask_storage(storage)
    )


def compare(studies: Sequence[str], storage: Storage = None) -> Comparison:
    """Compare two or more studies of one storage, each with the first.

    Args:
        studies: names of the studies; the others are compared with the first.
        storage: URL or path.

    Raises:
        StudyMismatch: the studies have different objectives.
        StorageError: a study cannot be read.
    """
    from mtsearch.report.comparison import compare_studies
    from mtsearch.search.results import read_results
    from mtsearch.search.storage import reading_storage
    from mtsearch.search.storage.url import resolve_url

    with reading_storage(resolve_url(storage)) as reader:
        return compare_studies([read_results(reader, name) for name in studies])


def report_on(
    study: str | None = None,
    storage: Storage = None,
    *,
    seeds: int = 5,
    members: int = 1,
    make_trainer: MakeTestingTrainer | None = None,
    begun: Begun = lambda _done, _all: None,
    on_epoch: Watcher = lambda _trial, _seed, _share: None,
    on_tested: Listener = lambda _trial, _seed, _result: None,
) -> TestReport:
    """Train the trials of a front on training and validation rows, and evaluate them on the test rows.

    This is the command `mtsearch report`; the package `mtsearch.report` makes tables and pages. Each training is stored
    in the study once it is evaluated. An interrupted report therefore goes on, and a second one trains nothing twice.

    Args:
        study: the study's name; None takes the study written last.
        storage: URL or path.
        seeds: number of models of each trial, with the trial's own seed and the seeds after it.
        members: number of trainings that make a model, 1 to 100; see `mtsearch.retraining.retrain`.
        make_trainer, begun, on_epoch, on_tested: see `mtsearch.retraining.evaluate_front`.

    Raises:
        PickError: the front is empty.
        MtsearchError: see `mtsearch.errors`.
    """
    from mtsearch.report.test_report import make_test_report
    from mtsearch.retraining.evaluate_front import evaluate_front
    from mtsearch.search.attributes import TestResultStore
    from mtsearch.search.results import results_of
    from mtsearch.search.storage import writing_storage
    from mtsearch.search.storage.url import resolve_url
    from mtsearch.search.study import find_study

    if seeds < 1:
        raise DefinitionError(f"seeds = {seeds}", "one or more")
    with writing_storage(resolve_url(storage)) as writer:
        found = find_study(writer, study)
        evaluate_front(
            results_of(found),
            seeds,
            TestResultStore(found),
            members=members,
            make_trainer=make_trainer,
            begun=begun,
            on_epoch=on_epoch,
            on_tested=on_tested,
        )
        return make_test_report(results_of(found), seeds, members)


def dashboard(
    study: str | None = None,
    storage: Storage = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    ready: Callable[[str, str], None] = lambda _study, _address: None,
) -> None:
    """Serve optuna-dashboard for a study, read-only, until SIGINT or SIGTERM.

    Args:
        study: the study's name; None takes the study written last.
        storage: URL or path.
        host: address or host name to listen on.
        port: TCP port; if it is in use, the next free one is taken. 0 takes any free port.
        ready: called with the study's name and the address of its page once the server answers requests.

    Raises:
        StorageError: the storage or the study cannot be read.
        MachineError: the server cannot listen on the address.
    """
    from mtsearch.report.dashboard import serve_dashboard
    from mtsearch.search.storage.url import resolve_url

    serve_dashboard(resolve_url(storage), study, host, port, ready, None if storage is None else mask_storage(storage))


# From the front to a model


def select(study: Study, pick: str = "knee") -> Selection:
    """Select one trial of a study by a rule, and return the trial with the reason for it.

    Args:
        study: results of the study.
        pick: `knee` for the knee of the front; an objective's key for the best trial in it; `trial:17` for trial 17;
            or a limit such as `rmse<=0.93`.

    Raises:
        PickError: the pick cannot be read, or no trial meets it.
    """
    from mtsearch.search.selection import select as select_trial

    return select_trial(study, pick)


def export(study: str | Study | None = None, storage: Storage = None, pick: str = "knee") -> Export:
    """Export the configuration of one trial, with its data, split and provenance.

    `.save("best.toml")` of the result writes the file.

    Args:
        study: the study's name, or its results; None takes the study written last.
        storage: URL or path.
        pick: see `select`.

    Raises:
        PickError: the pick cannot be read, or no trial meets it.
        StorageError: the study cannot be read.
    """
    from mtsearch.report import Study
    from mtsearch.search.selection import make_export

    loaded = study if isinstance(study, Study) else load_study(study, storage)
    return make_export(loaded, select(loaded, pick))


def load_export(path: str | PathLike[str]) -> Export:
    """Read a configuration that `export` wrote to a file; see `Export.load`."""
    from mtsearch.study_file.export import Export

    return Export.load(Path(path))


def retrain(
    export: Export | str | Path,
    folder: str | Path,
    *,
    seeds: int = 1,
    members: int = 1,
    on: On = "train+validation",
    on_epoch: EpochWatcher = lambda _seed, _epoch: None,
) -> Retrained:
    """Train an exported configuration again and write a model folder; see `mtsearch.retraining.retrain`."""
    from mtsearch.retraining import retrain as retrain_export

    return retrain_export(export, folder, seeds=seeds, members=members, on=on, on_epoch=on_epoch)


def retrained_epochs(export: Export) -> int:
    """Return how many epochs `retrain` trains: all, or with `patience` those up to the trial's best epoch."""
    from mtsearch.retraining import retrained_epochs as epochs_of

    return epochs_of(export)


def retraining_verdict(result: Retrained) -> list[str]:
    """Return sentences that compare a retrained model with the best baselines and with its original trial."""
    from mtsearch.retraining.model_dir import retraining_verdict as verdict

    return list(verdict(result))


def load_model(folder: str | PathLike[str]) -> ServedModel:
    """Load a model folder that `retrain` wrote, to recommend and predict with.

    Raises:
        ModelError: the folder is missing, damaged, of a newer format, or not a model folder.
    """
    from mtsearch.serving import ServedModel

    return ServedModel.load(Path(folder))


def recommend(
    folder: str | PathLike[str],
    users: Sequence[str],
    k: int = 10,
    exclude_seen: bool = True,
    task: str | None = None,
) -> Recommendations:
    """Recommend the best k items to each user with the model in a folder.

    Each call loads the model again; for several calls use `load_model`.

    Args:
        folder: that `retrain` wrote.
        users: their ids.
        k: number of items for each.
        exclude_seen: leave out the items that the user had in the training rows of the task.
        task: of retrieval, to rank by; None takes the study's first objective of retrieval.

    Raises:
        ModelError: see `load_model`.
        RequestError: an id or k is out of bounds, or the model has no such task.
    """
    return load_model(folder).recommend(users, k, exclude_seen, task)


def predict(folder: str | PathLike[str], users: Sequence[str], items: Sequence[str]) -> Predictions:
    """Predict the ratings and labels of pairs of a user and an item with the model in a folder.

    Raises:
        ModelError: see `load_model`.
        RequestError: an id is out of bounds, or the model has no task of ratings or labels.
    """
    return load_model(folder).predict(users, items)


def recommend_file(
    folder: str | PathLike[str],
    source: str | PathLike[str],
    output: str | PathLike[str],
    k: int = 10,
    exclude_seen: bool = True,
    tasks: Sequence[str] = (),
) -> BulkCount:
    """Recommend k items to each user of a file and write them to another file; see `mtsearch.serving.bulk`."""
    from mtsearch.serving import bulk

    return bulk.recommend_file(lambda: load_model(folder), Path(source), Path(output), k, exclude_seen, tasks)


def predict_file(folder: str | PathLike[str], source: str | PathLike[str], output: str | PathLike[str]) -> BulkCount:
    """Predict ratings and labels of each pair of a file and write them to another file; see `mtsearch.serving.bulk`."""
    from mtsearch.serving import bulk

    return bulk.predict_file(lambda: load_model(folder), Path(source), Path(output))


def serve(
    folder: str | PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve the model in a folder over HTTP until SIGINT or SIGTERM; this needs `pip install 'mtsearch[serve]'`."""
    from mtsearch.serving.app import serve as serve_model

    serve_model(Path(folder), host, port, ready)


# The storage


def studies(storage: Storage = None) -> list[Study]:
    """Load the results of all studies in a storage, sorted by name."""
    from mtsearch.report import as_study
    from mtsearch.search.results import read_all_results
    from mtsearch.search.storage import reading_storage
    from mtsearch.search.storage.url import resolve_url

    with reading_storage(resolve_url(storage)) as reader:
        return [as_study(each) for each in read_all_results(reader)]


def rename(old: str, new: str, storage: Storage = None) -> None:
    """Give a study another name; `mtsearch run --study NEW` then goes on with the study."""
    from mtsearch.search.storage import writing_storage
    from mtsearch.search.storage.url import resolve_url
    from mtsearch.search.study import rename_study

    with writing_storage(resolve_url(storage)) as writer:
        rename_study(writer, old, new)


def delete(study: str, storage: Storage = None) -> None:
    """Delete a study with all its trials."""
    from mtsearch.search.storage import writing_storage
    from mtsearch.search.storage.url import resolve_url
    from mtsearch.search.study import delete_study

    with writing_storage(resolve_url(storage)) as writer:
        delete_study(writer, study)


def upgrade(storage: Storage = None) -> None:
    """Bring a storage that an older version of Optuna wrote to the schema of the installed version.

    NOTE: a view on Optuna's tables breaks the renames of its migrations on SQLite, so the views go first.
    """
    from mtsearch.search.ownership import require_no_owners
    from mtsearch.search.storage import close_storage, open_outdated, storage_errors, writing_storage
    from mtsearch.search.storage.url import resolve_url
    from mtsearch.search.storage.views import drop_views, ensure_views

    url = resolve_url(storage)
    with storage_errors(url):
        outdated = open_outdated(url)
        try:
            require_no_owners(outdated)
            drop_views(outdated)
            with _quiet_alembic():
                outdated.upgrade()
        finally:
            close_storage(outdated)
    with writing_storage(url) as writer:
        ensure_views(writer)


def storage_name(storage: Storage = None) -> str:
    """Return where a storage is, for people to read: an absolute path, or a URL with its secrets hidden."""
    from mtsearch.search.storage.url import mask_url, resolve_url

    return mask_url(resolve_url(storage))


def mask_storage(storage: str | PathLike[str]) -> str:
    """Return a storage as the user typed it, with its secrets hidden."""
    from mtsearch.search.storage.url import mask_url

    return mask_url(str(storage))


@contextmanager
def _quiet_alembic() -> Iterator[None]:
    """Silence Optuna's migrations, which print each step unless logging is set up already."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
