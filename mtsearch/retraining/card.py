"""The model card: what a model is, what it was measured on, and what it should not be used for."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version

from mtsearch.evaluation.interval import Interval
from mtsearch.objectives import METRICS, metrics_of, unit_of
from mtsearch.report.wording import better, count, listing, number, plain
from mtsearch.retraining.result import Retrained
from mtsearch.retraining.verdict import verdict

_ROWS = {
    "train": "the training rows",
    "train+validation": "the training and the validation rows",
    "all": "all rows, test included",
}
_USE = """\
Predicting the rating that a user of these ratings would give an item of them, and ranking the catalogue for such a
user: to study, to compare with, and to build demonstrations on. A user or an item that was not trained on is answered
with the average user's or item's answer, and said to be unknown."""
_MISUSE = """\
- Decisions about people: ratings of items say little of whoever gave them, and are personal data.
- Other catalogues, other populations or other times than those of the ratings.
- Users without ratings: what they get is the average user's ranking, no recommendation of their own.
- Claims beyond the protocol: {held_out};
  what was never rated counts as a miss, and nobody was shown these recommendations."""
_OTHERS_LATER = "so that what others rated later helped to predict them"
_HELD_OUT = {
    "random": "held-out rows were drawn at random, so that later ratings helped to predict earlier ones",
    "temporal": "held-out rows are the latest of all, so that who and what came later is unknown",
    "temporal_user": f"held-out rows are the latest of each user, {_OTHERS_LATER}",
    "leave_last": f"held-out rows are the last of each user, {_OTHERS_LATER}",
    "column": "held-out rows are those that a column of the table names",
}
"""By the method of the split."""
_MOVIELENS = """\
- Anything that the licence of MovieLens does not allow: it is for research, and neither for redistribution nor for
  commercial use without permission of GroupLens."""
_LOADING = """\
```python
import tensorflow as tf

model = tf.saved_model.load("1")
best = model.signatures["recommend"](
    user_id=tf.constant(["1"]), k=tf.constant(10), exclude_seen=tf.constant(True)
)
rating = model.signatures["predict"](user_id=tf.constant(["1"]), item_id=best["item_ids"][0, :1])
```"""


def model_card(result: Retrained) -> str:
    """Markdown."""
    sections = {
        "Data": _data(result),
        "How it was chosen": _chosen(result),
        "Metrics": _metrics(result),
        "Intended use": [_USE],
        "What it should not be used for": _misuse(result),
        "Loading it": ["From this folder, in plain TensorFlow:", "", _LOADING],
        "Configuration": _configuration(result),
    }
    lines = [f"# {_text(result.folder.name)}", "", _what(result)]
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _what(result: Retrained) -> str:
    own = result.export.model
    kind = (
        f"A model of its user's own, made by {_code(own.factory)}: it predicts"
        if own
        else "A joint recommender: shared embeddings of users and items learn"
    )
    return (
        f"{kind} the rating that a user gives and the item that a user picks. "
        f"Trained by mtsearch {version('mtsearch')} on {_ROWS[result.on]} for "
        f"{count(result.epochs, 'epoch')}, seed {result.seeds[0]}, on {_text(result.device)}."
    )


def _data(result: Retrained) -> list[str]:
    export = result.export
    tested = f"; {result.rows['test']:,} test rows" if result.rows["test"] else ""
    low, high = map(number, result.rating_range)
    span = f"{low} to {high} {unit_of(result.feedback)}".rstrip()
    return [
        f"- Source: {_code(export.data.source)}, fingerprint `{export.provenance.data_fingerprint}`",
        f"- {result.rows['train']:,} rows trained on, of {count(result.users, 'user')} and "
        f"{count(result.items, 'item')}{tested}",
        f"- {count(result.catalogue, 'item')} in the catalogue; ratings from {span}",
    ]


def _chosen(result: Retrained) -> list[str]:
    provenance = result.export.provenance
    labels = [METRICS[key].label for key in provenance.objectives if key in METRICS]
    named = provenance.pick.startswith("trial:")  # which need not be on the front
    picked = f"picked by {_code(provenance.pick)} from its Pareto front of {listing(labels)}"
    how = "named by its number" if named else picked
    lines = [f"Trial {provenance.trial} of study {_code(provenance.study)}, {how}."]
    if result.export.split.validation == "test":
        lines.append("That study validated on its test rows: what was chosen was chosen on them.")
    else:
        lines.append("The search saw training and validation rows only.")
    if drawn := result.export.split.validation_users:
        lines.append(
            f"It judged on the validation rows of {drawn:,} users, drawn once; of all where there are no more."
        )
    return lines


def _metrics(result: Retrained) -> Sequence[str]:
    lines = list(verdict(result))
    if result.test:
        seeds = listing([str(seed) for seed in result.seeds])
        told = f"On the test rows, each model judged once, after its last epoch. Seeds: {seeds}"
        lines.append(f"{told}; mean and 95 % interval of the mean (Student's t)." if result.seeds[1:] else f"{told}.")
    else:
        lines.append("No rows were left to judge it on. What its configuration reached on the trial's validation rows:")
    return [*(f"- {line}" for line in lines[:-1]), "", lines[-1], "", *_metrics_table(result)]


def _metrics_table(result: Retrained) -> Iterator[str]:
    trial = result.export.provenance.metrics
    columns = [*(["test"] if result.test else []), "trial, validation", *result.baselines]
    yield _row(["metric", *columns])
    yield _row(["--"] * (len(columns) + 1))
    for key, metric in metrics_of(result.feedback).items():
        if key not in trial and key not in result.test:
            continue
        tested = [_interval(result.test[key])] if result.test else []
        references = [_value(values.get(key)) for values in result.baselines.values()]
        yield _row([f"{metric.axis}, {better(metric)}", *tested, _value(trial.get(key)), *references])


def _misuse(result: Retrained) -> list[str]:
    misuse = _MISUSE.format(held_out=_HELD_OUT[result.export.split.method])
    return [misuse, _MOVIELENS] if result.export.data.source.startswith("movielens/") else [misuse]


def _configuration(result: Retrained) -> Iterator[str]:
    yield from ("As in `export.toml`:", "", _row(["parameter", "value"]), _row(["--", "--"]))
    for name, value in result.export.config.model_dump().items():
        yield _row([name, _code(str(value)) if value != "" else ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(interval: Interval) -> str:
    if len(interval.values) == 1:
        return _value(interval.mean)
    return f"{_value(interval.mean)} ({_value(interval.low)} to {_value(interval.high)})"


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _text(text: str) -> str:
    """One line, without what Markdown or HTML would read as theirs."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|&" else char for char in plain(text))


def _code(text: str) -> str:
    shown = plain(text).replace("`", "'").replace("|", "/")
    return f"`{shown}`"
