"""What projects, repositories, their prefixes, rules and descriptions may be called; for the API and the command line.

Each function gives the text back, or raises ValueError that says what is allowed. Whether a name is taken, the database
says.
"""

import re
from typing import Final

from gateway.oci.names import is_name

MAX_NAME_CHARS: Final = 100
"""Of one segment: two of them, an image name and a host still fit into 255 (row GEN-02)."""
MAX_GLOB_CHARS: Final = 128
"""As long as a tag can be."""
MAX_RULES: Final = 100
MAX_TEXT_CHARS: Final = 1000

_GLOB: Final = re.compile(r"[A-Za-z0-9_.*?!\[\]-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # a line break and a tab are text


def segment(text: str) -> str:
    """The name of a project or of a repository in it: one segment of an image name."""
    if "/" in text or not _fits(text, MAX_NAME_CHARS):
        raise ValueError("use lower-case letters and digits, with single '.', '_' or '-' (or '__') between them")
    return text


def full_name(text: str) -> str:
    """A repository with its project: PROJECT/REPOSITORY."""
    project, slash, repository = text.partition("/")
    if not slash or "/" in repository or not (_fits(project, MAX_NAME_CHARS) and _fits(repository, MAX_NAME_CHARS)):
        raise ValueError("use PROJECT/REPOSITORY, both of lower-case letters, digits, '.', '_' and '-'")
    return text


def alias_prefix(text: str) -> str:
    """The first segments of image names that lead to a repository."""
    if not _fits(text, MAX_NAME_CHARS):
        raise ValueError("use segments of lower-case letters, digits, '.', '_' and '-', separated by '/'")
    return text


def tag_glob(text: str) -> str:
    """A pattern over tags."""
    if len(text) > MAX_GLOB_CHARS or not _GLOB.fullmatch(text):
        raise ValueError("use characters of tags and the wildcards '*', '?' and '[...]'")
    return text


def description(text: str) -> str:
    """A text for people, of any language and several lines."""
    if len(text) > MAX_TEXT_CHARS or _CONTROL.search(text):
        raise ValueError(f"use at most {MAX_TEXT_CHARS} characters, without control characters")
    return text


def _fits(text: str, most: int) -> bool:
    return len(text) <= most and is_name(text)
