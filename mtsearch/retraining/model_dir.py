"""Write a model folder, whole or not at all: the SavedModel, its metrics, its export and its model card."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtsearch.errors import MachineError, ModelError
from mtsearch.evaluation.baselines import compare_with_best
from mtsearch.evaluation.confidence import Interval
from mtsearch.files import find_obstacle
from mtsearch.metrics import TUTORIAL_KINDS, output_name, unit_of
from mtsearch.serving.model import CARD_FILE, FORMAT, INFO_FILE, SAVED_MODEL
from mtsearch.study_file.tasks import TUTORIAL_TASKS, TaskSection, kinds_of
from mtsearch.text import better, count, listing, number, plain

if TYPE_CHECKING:
    from mtsearch.retraining.retrain import Retrained

_NOT_EVALUATED = (
    "trained on all rows: none are left to evaluate the model on; `trial` has the validation metrics of the trial"
)


def metrics_json(result: Retrained) -> dict[str, Any]:
    """Return the content of `metrics.json`."""
    return {
        "on": result.on,
        "seeds": list(result.seeds),
        "members": result.members,
        "epochs": result.epochs,
        **({} if result.test else {"note": _NOT_EVALUATED}),
        "test": {key: asdict(interval) for key, interval in result.test.items()},
        "validation": {key: asdict(interval) for key, interval in result.validation.items()},
        "trial": dict(result.export.provenance.metrics),
        "baselines": {name: dict(metrics) for name, metrics in result.baselines.items()},
    }


def curve_json(result: Retrained) -> list[dict[str, Any]]:
    """Return the content of `curve.json`: an object per epoch, without empty entries."""
    return [{key: value for key, value in asdict(epoch).items() if value != {}} for epoch in result.curve]


EXPORT_FILE = "export.toml"
METRICS_FILE = "metrics.json"
CURVE_FILE = "curve.json"

_MODEL_FILES = {SAVED_MODEL, EXPORT_FILE, METRICS_FILE, CURVE_FILE, INFO_FILE, CARD_FILE}


def resolve_target(folder: Path) -> Path:
    """Return the absolute path of a folder to write, where nothing or only an earlier model may be.

    Raises:
        ModelError: something else is at that path.
        MachineError: a folder cannot be made there.
    """
    target = folder.resolve()  # of a link its target
    try:
        _require_replaceable(target)
        parent = find_obstacle(target)
    except OSError as error:
        raise _unwritable_error(target, error.strerror or str(error)) from None
    if parent is not None:
        raise _unwritable_error(target, f"{parent} is not a writable folder")
    return target


def write_folder(result: Retrained, save: Callable[[Path], None]) -> None:
    """Write the model folder `result.folder`, whole or not at all.

    Args:
        result: the configuration that was trained again.
        save: writes the SavedModel.

    Raises:
        ModelError: something that is no model folder has appeared at that path meanwhile.
        MachineError: the folder cannot be written.
    """
    # All files are written into a temporary folder beside the target, which is renamed at the end.
    target = result.folder
    aside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        aside.mkdir(parents=True)
        _write_files(aside, result, save)
        _require_replaceable(target)
        _replace_folder(aside, target)
    except OSError as error:
        raise _unwritable_error(target, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in missing:  # removed if they are still empty
            with suppress(OSError):
                parent.rmdir()


def _write_files(folder: Path, result: Retrained, save: Callable[[Path], None]) -> None:
    """Write all files of a model folder."""
    save(folder / SAVED_MODEL)
    result.export.save(folder / EXPORT_FILE)
    _write_json(folder / METRICS_FILE, metrics_json(result))
    _write_json(folder / CURVE_FILE, curve_json(result))
    _write_json(folder / INFO_FILE, _model_info(result))
    (folder / CARD_FILE).write_text(model_card(result), encoding="utf-8")


def _replace_folder(aside: Path, target: Path) -> None:
    """Move the finished folder to its place, and remove the earlier model there after that."""
    if not target.exists() or not any(target.iterdir()):
        aside.replace(target)
        return
    before = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    target.rename(before)
    try:
        aside.rename(target)
    except BaseException:
        before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _require_replaceable(target: Path) -> None:
    """Refuse a path if writing there would delete anything but an earlier model."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ModelError(f"{target} is a file", "name a folder")
    found = {path.name for path in target.iterdir()}
    if found and INFO_FILE not in found:
        raise ModelError(f"{target} exists and is not a model folder", "name another folder")
    if strange := sorted(found - _MODEL_FILES):
        problem = f"{target} has {strange[0]!r} in it, which would be deleted with the earlier model"
        raise ModelError(problem, "move that file away or name another folder")


def _unwritable_error(target: Path, reason: str) -> MachineError:
    """Make the error for a folder that cannot be written."""
    return MachineError(f"cannot write {target}: {reason}", "name a folder that you can write")


def _model_info(result: Retrained) -> dict[str, Any]:
    """Return the content of `model.json`, which is read before TensorFlow starts; see `serving.model.ModelInfo`."""
    tasks = kinds_of(result.export.tasks)
    sections = (result.export.tasks or TUTORIAL_TASKS).values()
    has_ratings = any(section.uses_ratings for section in sections) and math.isfinite(result.rating_range[0])
    return {
        "format": 1 if tasks == TUTORIAL_KINDS else FORMAT,
        "mtsearch": version("mtsearch"),
        "users": result.users,
        "items": result.items,
        "catalogue": result.catalogue,
        "rating_range": list(result.rating_range) if has_ratings else None,
        "tasks": tasks,
        "first": first_ranking(result),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": result.export.provenance.data_fingerprint,
        "threads": result.threads,
        "members": result.members,
        "seeds": list(result.groups[0]),
    }


def first_ranking(result: Retrained) -> str | None:
    """Return the task that recommends by default: of the first objective of retrieval, else the first of retrieval."""
    ranked = [metric.task for metric in result.objectives if metric.kind == "retrieval"]
    ranked += [task for task, kind in kinds_of(result.export.tasks).items() if kind == "retrieval"]
    return ranked[0] if ranked else None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


_TRAINED_ON = {
    "train": "the training rows",
    "train+validation": "the training and the validation rows",
    "all": "all rows, test included",
}
_USE = """\
Predicting the rating that a user of these ratings would give an item of them, and ranking the catalogue for such a
user: to study, to compare with, and to build demonstrations on. A user or an item without
training rows gets the answer of the average user or item, and is marked as unknown."""
_MISUSE = """\
- Decisions about people: ratings of items say little about the people who gave them, and are personal data.
- Other catalogues, other populations or other times than those of the ratings.
- Users without ratings: they get the ranking of the average user, not recommendations made for them.
- Claims beyond the protocol: {held_out};
  an item that was never rated counts as a miss, and no user has seen these recommendations."""
_OTHERS_LATER = "so that later ratings of other users helped to predict them"
_HELD_OUT = {
    "random": "held-out rows were drawn at random, so that later ratings helped to predict earlier ones",
    "temporal": "held-out rows are the latest of all, so that users and items that came later are unknown",
    "temporal_user": f"held-out rows are the latest of each user, {_OTHERS_LATER}",
    "leave_last": f"held-out rows are the last of each user, {_OTHERS_LATER}",
    "column": "held-out rows are those that a column of the table names",
}
"""How rows were held out, by the method of the split."""
_MOVIELENS = """\
- Anything that the licence of MovieLens does not allow: it is for research, and neither for redistribution nor for
  commercial use without permission of GroupLens."""
_USE_OF_TASKS = """\
For a user of these data: {uses}; to study, to compare with, and to build demonstrations on. A user or an item without
training rows gets the answer of the average user or item, and is marked as unknown."""
_LEARNS = {
    "retrieval": "which item a row has",
    "rating": "the number {target}",
    "label": "yes or no, {target}",
}
"""What a task learns, by its kind."""
_RECOMMENDING = """\
best = model.signatures["recommend"](
    user_id=tf.constant(["1"]), k=tf.constant(10), exclude_seen=tf.constant(True)
)"""
_PREDICTING = """\
{name} = model.signatures["predict"](user_id=tf.constant(["1"]), item_id={item}){output}"""


def model_card(result: Retrained) -> str:
    """Return the model card, in Markdown."""
    sections = {
        "Data": _data_section(result),
        "How it was chosen": _selection_section(result),
        "Metrics": _metrics_section(result),
        "Intended use": [_use(result)],
        "What it should not be used for": _misuse_section(result),
        "Loading it": ["From this folder, in plain TensorFlow:", "", *_loading(result)],
        "Configuration": _configuration_section(result),
    }
    lines = [f"# {_as_text(result.folder.name)}", "", _summary(result)]
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _summary(result: Retrained) -> str:
    """Return the paragraph that says what the model predicts and how it was trained."""
    custom = result.export.model
    kind = (
        f"A custom model, made by {_as_code(custom.factory)}: it predicts"
        if custom
        else "A joint recommender: shared embeddings of users and items learn"
    )
    learnt = "the rating that a user gives and the item that a user picks"
    if tasks := result.export.tasks:
        learnt = f"{count(len(tasks), 'task')}, {listing(list(tasks))}"
    return (
        f"{kind} {learnt}. "
        f"Trained by mtsearch {version('mtsearch')} on {_TRAINED_ON[result.on]} for "
        f"{count(result.epochs, 'epoch')}, {_seeds_text(result)}, on {_as_text(result.device)}."
        f"{_MEANS.format(members=result.members) if result.members > 1 else ''}"
    )


_MEANS = (
    " It is one model of {members} members, trainings that differ in their seeds alone: its predictions and its scores "
    "are their means."
)


def _seeds_text(result: Retrained) -> str:
    """Return the seeds of the model that is written."""
    first = [str(seed) for seed in result.groups[0]]
    return f"seed {first[0]}" if len(first) == 1 else f"seeds {listing(first)}"


def _data_section(result: Retrained) -> list[str]:
    """Return the lines about the data."""
    export = result.export
    tested = f"; {result.rows['test']:,} test rows" if result.rows["test"] else ""
    ratings = ""
    if any(task.uses_ratings for task in (export.tasks or TUTORIAL_TASKS).values()):
        low, high = map(number, result.rating_range)
        ratings = f"; ratings from {low} to {high} {unit_of(result.feedback)}".rstrip()
    return [
        f"- Source: {_as_code(export.data.origin)}, fingerprint `{export.provenance.data_fingerprint}`",
        f"- {result.rows['train']:,} rows trained on, of {count(result.users, 'user')} and "
        f"{count(result.items, 'item')}{tested}",
        f"- {count(result.catalogue, 'item')} in the catalogue{ratings}",
        *(_task_line(name, task) for name, task in export.tasks.items()),
    ]


def _task_line(name: str, task: TaskSection) -> str:
    """Return the line about what a task learns and from which rows."""
    learnt = _LEARNS[task.kind].format(target=_as_code(task.target) if task.target else "of ratings")
    return f"- Task {_as_code(name)}: {learnt}" + (f", where {_as_code(task.where)}" if task.where else "")


def _selection_section(result: Retrained) -> list[str]:
    """Return the lines about how the configuration was chosen."""
    provenance = result.export.provenance
    labels = [metric.label for metric in result.objectives]
    named = provenance.pick.startswith("trial:")  # which need not be on the front
    # With one objective a front is the best trial.
    found = f"as the best in {labels[0]}" if len(labels) == 1 else f"from its Pareto front of {listing(labels)}"
    picked = f"picked by {_as_code(provenance.pick)} {found}"
    how = "named by its number" if named else picked
    lines = [f"Trial {provenance.trial} of study {_as_code(provenance.study)}, {how}."]
    if result.export.split.validation == "test":
        lines.append("That study validated on its test rows: the trial was chosen on them.")
    else:
        lines.append("The search saw training and validation rows only.")
    if drawn := result.export.split.validation_users:
        lines.append(
            f"Trials were evaluated on the validation rows of {drawn:,} users, drawn once; of all if there are no more."
        )
    return lines


def _metrics_section(result: Retrained) -> Sequence[str]:
    """Return the lines about the metrics, with their table."""
    lines = list(retraining_verdict(result))
    if result.test:
        # Of a model with several members: the seeds of each model together.
        seeds = listing(["-".join(map(str, group)) for group in result.groups])
        caption = f"On the test rows, each model evaluated once, after its last epoch. Seeds: {seeds}"
        lines.append(
            f"{caption}; mean and 95 % interval of the mean (Student's t)." if result.groups[1:] else f"{caption}."
        )
    else:
        lines.append(
            "No rows were left to evaluate the model on. Metrics of its configuration on the trial's validation rows:"
        )
    return [*(f"- {line}" for line in lines[:-1]), "", lines[-1], "", *_metrics_table(result)]


def _metrics_table(result: Retrained) -> Iterator[str]:
    """Yield the lines of the table of metrics."""
    trial = result.export.provenance.metrics
    columns = [*(["test"] if result.test else []), "trial, validation", *result.baselines]
    yield _table_row(["metric", *columns])
    yield _table_row(["--"] * (len(columns) + 1))
    for key, metric in result.metrics.items():
        if key not in trial and key not in result.test:
            continue
        tested = [_interval(result.test[key])] if result.test else []
        references = [_four_decimals(values.get(key)) for values in result.baselines.values()]
        yield _table_row([f"{metric.axis}, {better(metric)}", *tested, _four_decimals(trial.get(key)), *references])


def _use(result: Retrained) -> str:
    """Return the paragraph about suitable uses."""
    if not result.export.tasks:
        return _USE
    kinds = kinds_of(result.export.tasks)
    ranked = [name for name, kind in kinds.items() if kind == "retrieval"]
    predicted = [name for name in kinds if name not in ranked]
    uses = [f"ranking the catalogue by {listing(ranked)}"] if ranked else []
    uses += [f"predicting {listing(predicted)} of an item"] if predicted else []
    return _USE_OF_TASKS.format(uses=listing(uses))


def _loading(result: Retrained) -> Iterator[str]:
    """Yield the lines of the example that loads the model."""
    yield from ("```python", "import tensorflow as tf", "", 'model = tf.saved_model.load("1")')
    ranks = first_ranking(result) is not None
    if ranks:
        yield _RECOMMENDING
    if predicted := [name for name, kind in kinds_of(result.export.tasks).items() if kind != "retrieval"]:
        item = 'best["item_ids"][0, :1]' if ranks else 'tf.constant(["1"])'
        name, output = (predicted[0], f'["{output_name(predicted[0])}"]') if result.export.tasks else ("rating", "")
        yield _PREDICTING.format(name=name, item=item, output=output)
    yield "```"


def _misuse_section(result: Retrained) -> list[str]:
    """Return the lines about unsuitable uses."""
    misuse = _MISUSE.format(held_out=_HELD_OUT[result.export.split.method])
    return [misuse, _MOVIELENS] if result.export.data.origin.startswith("movielens/") else [misuse]


def _configuration_section(result: Retrained) -> Iterator[str]:
    """Yield the lines of the table of parameters."""
    yield from ("As in `export.toml`:", "", _table_row(["parameter", "value"]), _table_row(["--", "--"]))
    for name, value in result.export.config.model_dump().items():
        yield _table_row([name, _as_code(str(value)) if value != "" else ""])


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(interval: Interval) -> str:
    if len(interval.values) == 1:
        return _four_decimals(interval.mean)
    return f"{_four_decimals(interval.mean)} ({_four_decimals(interval.low)} to {_four_decimals(interval.high)})"


def _four_decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _as_text(text: str) -> str:
    """Return a text as one line, with the special characters of Markdown and HTML escaped."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|&" else char for char in plain(text))


def _as_code(text: str) -> str:
    """Return a text as inline code of Markdown."""
    code = plain(text).replace("`", "'").replace("|", "/")
    return f"`{code}`"


def retraining_verdict(result: Retrained) -> Iterator[str]:
    """Yield a line per objective that compares it with the best baseline, and one that compares it with the trial."""
    for metric in result.objectives:
        if metric.key in result.test:
            yield compare_with_best(metric, result.test[metric.key].mean, result.baselines)
    if result.repeats_the_trial:
        yield _repetition_line(result)


def _repetition_line(result: Retrained) -> str:
    """Return a line that says how far the validation metrics equal those of the trial."""
    trial = result.export.provenance.metrics
    apart = [key for key, interval in result.validation.items() if interval.mean != trial.get(key)]
    if not apart:
        return "validation metrics: equal to those of the trial, to the last bit"
    key = apart[0]
    change = f"{trial[key]:.6g} -> {result.validation[key].mean:.6g}" if key in trial else "the trial has no value"
    return f"validation metrics: {len(apart)} of {len(result.validation)} differ from the trial's ({key}: {change})"
