"""Tests of `mtsearch guide`: the list of topics, pages for people and for pipes, an unknown topic."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mtsearch import guide
from tests.cli.conftest import Command


def test_without_a_topic_it_lists_all_with_their_titles(mtsearch: Command) -> None:
    result = mtsearch("guide")
    assert result.status == 0
    assert [line.split(maxsplit=1) for line in result.out.splitlines()] == [
        [topic, title] for topic, title in guide.guide_topics().items()
    ]
    assert result.err == "next: mtsearch guide TOPIC\n"


@pytest.mark.parametrize("topic", guide.guide_topics())
def test_a_page_is_plain_markdown_where_it_is_piped(mtsearch: Command, topic: str) -> None:
    result = mtsearch("guide", topic)
    assert (result.status, result.err) == (0, "")
    assert result.out == guide.guide(topic)


def test_an_unknown_topic_is_a_usage_error_with_a_suggestion(mtsearch: Command) -> None:
    result = mtsearch("guide", "serch")
    assert (result.status, result.out) == (2, "")
    assert "guide [OPTIONS] [TOPIC]" in result.err
    assert "did you mean 'searching'?" in result.err


@pytest.mark.parametrize(("lines", "is_paged"), [(24, True), (2000, False)])
def test_on_a_terminal_it_is_formatted_and_paged_where_it_is_long(tmp_path: Path, lines: int, is_paged: bool) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho through the pager\ncat\n")
    pager.chmod(0o755)
    shown = on_a_terminal(["guide", "python"], lines, {"PAGER": str(pager), "TERM": "xterm"})
    assert ("through the pager" in shown) == is_paged
    assert "From Python" in shown and "# From Python" not in shown
    assert "StudyDefinition" in shown and "```" not in shown


def on_a_terminal(arguments: list[str], lines: int, environment: dict[str, str]) -> str:
    """Run mtsearch on a terminal of `lines` lines and 80 columns, and return its output."""
    here, there = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "mtsearch", *arguments],
        stdin=there, stdout=there, stderr=subprocess.PIPE, env={**inherited, **environment},
    )  # fmt: skip
    os.close(there)
    shown = b""
    while piece := _read(here):
        shown += piece
    os.close(here)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return shown.decode()


def _read(terminal: int) -> bytes:
    """Return the bytes that have come; empty once no writer is left, which Linux reports as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
