"""Wording and number formats that messages, tables, figures and pages share."""

import difflib
import reprlib
import shlex
from collections.abc import Collection, Mapping, Sequence

from mtsearch.metrics import Metric

LONGEST = 100

REPR = reprlib.Repr()


def shorten_middle(text: str) -> str:
    """Return a text, its middle replaced by `...` if it is longer than 100 characters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def quote(value: object) -> str:
    """Return a value as a message shows it: at most a few dozen characters, true and false as in TOML."""
    return str(value).lower() if isinstance(value, bool) else REPR.repr(value)


def nearest(name: str, known: Collection[str]) -> str:
    """Return a hint for an unknown name, in parentheses: the most similar known name, or else all of them."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f" (did you mean {match[0]!r}?)"
    return f" (known: {', '.join(known)})" if known else ""


STATES = {"fail": "failed"}
"""English words for those of Optuna's trial states that need another one."""


def number(value: object) -> str:
    """Format a value: floating-point numbers to four significant digits, all others unchanged."""
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))


def amount(value: float, metric: Metric) -> str:
    """Format a value of a metric with its unit, such as `0.921 stars`."""
    return f"{number(value)} {metric.unit}".rstrip()


def plain(text: str) -> str:
    """Return a text as one line: white space and control characters (terminal escapes too) become single spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def shorten(text: str, width: int = 60) -> str:
    """Cut a text to at most `width` characters, with an ellipsis at the end if something was left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def count(amount: int, noun: str) -> str:
    """Format a number with its noun, in the plural if needed: `1 trial`, `3 trials`."""
    return f"{amount} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def trials(numbers: Sequence[int]) -> str:
    """Name trials by their numbers: `trial 3`, `trials 3, 5 and 8`."""
    return f"{'trial' if len(numbers) == 1 else 'trials'} {listing([str(number) for number in numbers])}"


def states(amounts: Mapping[str, int]) -> str:
    """Format the number of trials in each state: `48 complete, 2 failed`."""
    return ", ".join(f"{amount:,} {STATES.get(state, plain(state))}" for state, amount in amounts.items())


def listing(names: list[str], word: str = "and") -> str:
    """Join names as in an English sentence: `a`, `a and b`, `a, b and c`."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def better(metric: Metric) -> str:
    """Return `lower is better` or `higher is better` for a metric."""
    return "lower is better" if metric.direction == "minimize" else "higher is better"


def aims(objectives: Sequence[Metric]) -> str:
    """Name the objectives and the better direction of each, as one part of a sentence."""
    titles = [axis_title(metric) for metric in objectives]
    # Each title contains a comma, so that three or more are separated by semicolons.
    return " and ".join(titles) if len(titles) <= 2 else "; ".join(titles)


def at_once(objectives: Sequence[Metric]) -> str:
    """Return ` in both objectives at once` or ` in all 3 objectives at once`; an empty text for one objective."""
    if len(objectives) == 1:
        return ""
    return f" in {'both' if len(objectives) == 2 else f'all {len(objectives)}'} objectives at once"


def front_name(objectives: Sequence[Metric], members: int) -> str:
    """Return `the front`; for one objective `the best trial`, or `the best trials` if several are equally good."""
    if len(objectives) > 1:
        return "the front"
    return "the best trial" if members <= 1 else "the best trials"


def front_title(objectives: Sequence[Metric]) -> str:
    """Return the title of the figure of the front: `Front`, or `Best so far` for one objective."""
    return "Front" if len(objectives) > 1 else "Best so far"


def legend_names(objectives: Sequence[Metric]) -> tuple[str, str]:
    """Return two legend texts: for the trials of the front and its knee, or for equally good trials and the best."""
    return ("front", "knee") if len(objectives) > 1 else ("as good", "best trial")


def box(objectives: Sequence[Metric]) -> str:
    """Name the whole that the hypervolume is a share of; for one objective it is a length, not a volume."""
    names = reference_names(objectives)
    return f"the way from {names} to the ideal" if len(objectives) == 1 else f"the box between {names} and the ideal"


def reference_names(objectives: Sequence[Metric]) -> str:
    """Name the baselines at which the hypervolume begins, each once: "chance"."""
    return listing(list(dict.fromkeys(metric.reference for metric in objectives)))


def volume_title(objectives: Sequence[Metric]) -> str:
    """Return the title of an axis of hypervolumes."""
    return f"hypervolume (share of the {'way' if len(objectives) == 1 else 'box'})"


def volume_format(objectives: Sequence[Metric]) -> str:
    """Return Plotly's format of a hypervolume; of three objectives and more, shares of a box are small."""
    return ".4f" if len(objectives) <= 2 else ".4g"


def axis_title(metric: Metric) -> str:
    """Return the title of a metric's axis: the metric, its unit and the better direction."""
    return f"{metric.axis}, {better(metric)}"


def shell_command(verb: str, study: str, storage: str | None = None, *rest: str) -> str:
    """Return a command for the shell, `mtsearch VERB --study STUDY`, with `--storage` if a storage is given.

    Args:
        verb: the command of mtsearch.
        study: name of the study.
        storage: a path, or a URL without its secrets; None for the default storage.
        rest: further arguments.
    """
    options = ["--study", study, *(["--storage", storage] if storage else []), *rest]
    return shlex.join(["mtsearch", verb, *options])


def quote_id(id_: str) -> str:
    """Quote and escape the id of a user or an item for a message; at most 40 characters are kept."""
    return repr(shorten(id_, 40))
