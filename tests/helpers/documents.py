"""Parse README and the guide: code blocks, commands, headings and links."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mtsearch.cli import cli

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "mtsearch" / "guide"

_PUNCTUATION = set("();<>|&")


@dataclass(frozen=True)
class Document:
    """A Markdown file.

    Attributes:
        path: absolute.
    """

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tokens(self) -> Sequence[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @property
    def inline(self) -> Iterator[Token]:
        """Return the tokens inside paragraphs, headings and cells."""
        for token in self.tokens:
            yield from token.children or ()

    def blocks(self, language: str) -> list[str]:
        """Return the fenced blocks of a language."""
        return [token.content for token in self.tokens if token.type == "fence" and token.info == language]

    @property
    def code_spans(self) -> list[str]:
        return [token.content for token in self.inline if token.type == "code_inline"]

    @property
    def links(self) -> list[str]:
        """Return the targets of links and pictures."""
        targets = [token.attrs.get("href") or token.attrs.get("src") for token in self.inline]
        return [str(target) for target in targets if target]

    def headings(self, tag: str | None = None) -> list[str]:
        """Return the headings as they are written, of all levels or of one such as `h1`."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        opened = [(token, text) for token, text in pairs if token.type == "heading_open"]
        return [text.content for token, text in opened if tag in (None, token.tag)]

    @property
    def anchors(self) -> set[str]:
        """Return the names that a link may have behind `#`: the headings as GitHub writes them."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings()}

    def rows(self) -> Iterator[list[str]]:
        """Return the cells of each row of each table."""
        cells: list[str] = []
        for token in self.tokens:
            if token.type == "tr_open":
                cells = []
            elif token.type == "tr_close":
                yield cells
            elif token.type == "inline":
                cells.append(token.content)

    def commands(self) -> list[list[str]]:
        """Return the arguments of each `mtsearch` in the blocks for the shell."""
        return [words[1:] for words in self.shell_commands() if words[0] == "mtsearch"]

    def shell_commands(self) -> Iterator[list[str]]:
        """Return the simple commands of the blocks for the shell: without pipes, redirections and comments."""
        for block in self.blocks("bash"):
            for line in block.replace("\\\n", " ").splitlines():
                yield from _simple_commands(line)


README = Document(ROOT / "README.md")
PAGES = {path.stem: Document(path) for path in sorted(GUIDE.glob("*.md"))}
DOCUMENTS = {"README": README, "CONTRIBUTING": Document(ROOT / "CONTRIBUTING.md"), **PAGES}


def parse(arguments: Sequence[str]) -> click.Context:
    """Parse arguments of `mtsearch` as the command line does, without running anything.

    Raises:
        click.UsageError: there is no such command or option, or a value does not fit.
    """
    command: click.Command = cli
    context: click.Context | None = None
    name, rest = "mtsearch", list(arguments)
    while isinstance(command, click.Group):
        own = click.Context(command, parent=context, info_name=name)
        _, remaining, _ = command.make_parser(own).parse_args(list(rest))
        if not remaining:
            break
        found = command.get_command(own, remaining[0])
        if found is None:
            raise click.UsageError(f"no command {remaining[0]!r}")
        command, context, name, rest = found, own, remaining[0], remaining[1:]
    return command.make_context(name, rest, parent=context)


def command_named(words: Sequence[str]) -> tuple[click.Command, Sequence[str]]:
    """Find the command at the start of some words, as in `studies rename OLD NEW`, and return both."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            break
        command, words = found, words[1:]
    return command, words


def all_commands(command: click.Command = cli, name: str = "mtsearch") -> Iterator[tuple[str, click.Command]]:
    """Return a command and all its subcommands, each with its name."""
    yield name, command
    if isinstance(command, click.Group):
        for below in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), below)
            assert found is not None
            yield from all_commands(found, below)


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command as they are typed."""
    options = [each for each in command.get_params(click.Context(command)) if isinstance(each, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


def _simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= _PUNCTUATION:
            words.append(word)
            continue
        if words[:1] == ["exec"]:
            words = words[1:]
        if words:
            yield words
        words = []
