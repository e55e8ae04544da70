"""The manual: a Markdown file per topic, beside this one.

It imports nothing heavy, so that `mtsearch guide` answers at once.
"""

from importlib.resources import files

TOPICS = (
    "data",
    "study-file",
    "tasks-and-metrics",
    "several-kinds-of-feedback",
    "searching",
    "workers",
    "gpu",
    "more-than-one-machine",
    "choosing",
    "serving",
    "own-model",
    "python",
    "results",
    "how-it-works",
)
"""The names of the pages in reading order."""


def guide_topics() -> dict[str, str]:
    """Return the topics in reading order, each with the title of its page."""
    return {topic: guide(topic).partition("\n")[0].removeprefix("# ") for topic in TOPICS}


def guide(topic: str) -> str:
    """Return the page on a topic as Markdown.

    Raises:
        ValueError: there is no such topic; the message names the nearest one.
    """
    if topic not in TOPICS:
        from mtsearch.text import nearest, shorten_middle

        raise ValueError(f"the guide has no topic {shorten_middle(topic)!r}{nearest(topic, TOPICS)}")
    return files("mtsearch.guide").joinpath(f"{topic}.md").read_text(encoding="utf-8")
