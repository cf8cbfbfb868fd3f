"""Help texts as they are written: a paragraph that begins with a line ending in a colon keeps its lines."""

import inspect
from typing import Final

import click

_EXAMPLES: Final = ":"


class _Written:
    """What a command and a group have in common here."""

    help: str | None

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """Fill paragraphs of prose, and print lists of examples line by line."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            lines = paragraph.splitlines()
            with formatter.indentation():
                if lines and lines[0].endswith(_EXAMPLES) and len(lines) > 1:
                    margin = " " * formatter.current_indent
                    formatter.write("".join(f"{margin}{line}\n" for line in lines))
                else:
                    formatter.write_text(paragraph)


class Command(_Written, click.Command):
    """A command with examples."""


class Group(_Written, click.Group):
    """A group of such commands."""

    command_class = Command
