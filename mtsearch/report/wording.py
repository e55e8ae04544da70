"""Words and numbers as people read them, the same in tables, figures and pages."""

from collections.abc import Mapping, Sequence

from mtsearch.objectives import Metric

STATES = {"fail": "failed"}
"""Optuna's words, where they do not read as English."""


def number(value: object) -> str:
    """A value to four significant digits; whole numbers, words and switches as they are."""
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))


def amount(value: float, metric: Metric) -> str:
    """A value with its unit, `0.921 stars`."""
    return f"{number(value)} {metric.unit}".rstrip()


def plain(text: str) -> str:
    """One line of text: runs of white space, line ends and control characters (terminal escapes too) become a space."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def shortened(text: str, width: int = 60) -> str:
    """At most `width` characters, the last an ellipsis where something was left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def count(amount: int, noun: str) -> str:
    """`1 trial`, `3 trials`."""
    return f"{amount} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def trials(numbers: Sequence[int]) -> str:
    """`trial 3`, `trials 3, 5 and 8`."""
    return f"{'trial' if len(numbers) == 1 else 'trials'} {listing([str(number) for number in numbers])}"


def states(amounts: Mapping[str, int]) -> str:
    """`48 complete, 2 failed`."""
    return ", ".join(f"{amount:,} {STATES.get(state, plain(state))}" for state, amount in amounts.items())


def listing(names: list[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def better(metric: Metric) -> str:
    """Which way is better, in words."""
    return "lower is better" if metric.direction == "minimize" else "higher is better"


def aims(objectives: Sequence[Metric]) -> str:
    """Name the objectives and which way each is better, as one part of a sentence."""
    titles = [axis_title(metric) for metric in objectives]
    # Each title has a comma of its own.
    return " and ".join(titles) if len(titles) <= 2 else "; ".join(titles)


def at_once(objectives: Sequence[Metric]) -> str:
    """` in both objectives at once`, ` in all 3 objectives at once`; of a single objective nothing."""
    if len(objectives) == 1:
        return ""
    return f" in {'both' if len(objectives) == 2 else f'all {len(objectives)}'} objectives at once"


def front_name(objectives: Sequence[Metric], members: int) -> str:
    """`the front`; with one objective `the best trial`, or `the best trials` where several are as good."""
    if len(objectives) > 1:
        return "the front"
    return "the best trial" if members <= 1 else "the best trials"


def front_title(objectives: Sequence[Metric]) -> str:
    """`Front`, or with one objective `Best so far`: what the figure of the front shows."""
    return "Front" if len(objectives) > 1 else "Best so far"


def legend_names(objectives: Sequence[Metric]) -> tuple[str, str]:
    """Name the front's other trials and its knee; with one objective trials that are as good as the best, and that."""
    return ("front", "knee") if len(objectives) > 1 else ("as good", "best trial")


def box(objectives: Sequence[Metric]) -> str:
    """Name what the hypervolume is a share of: with one objective it is a length."""
    return "the way from chance to the ideal" if len(objectives) == 1 else "the box between chance and the ideal"


def volume_title(objectives: Sequence[Metric]) -> str:
    """Title an axis of hypervolumes."""
    return f"hypervolume (share of the {'way' if len(objectives) == 1 else 'box'})"


def volume_format(objectives: Sequence[Metric]) -> str:
    """Return Plotly's format of a hypervolume; of three objectives and more, shares of a box are small."""
    return ".4f" if len(objectives) <= 2 else ".4g"


def axis_title(metric: Metric) -> str:
    """What an axis says: the metric, its unit, and which way is better."""
    return f"{metric.axis}, {better(metric)}"
