"""The effective tree as TOML that could be its own configuration file, except that secrets are stars."""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from gateway.config.settings import Settings

MASK: Final = "***"


def render(settings: Settings) -> str:
    """TOML of the whole tree; a key without a value is a comment that says so. Secrets are `***`."""
    return "\n".join(_section(settings, ())).lstrip("\n") + "\n"


def _section(section: BaseModel, path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    below: list[str] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            below += _section(value, (*path, name))
        elif isinstance(value, dict):
            for each, inside in value.items():
                below += _section(inside, (*path, name, each))
        elif value is None:
            lines.append(f"# {name} is not set")
        else:
            lines.append(f"{name} = {_value(value)}")
    header = ["", f"[{'.'.join(path)}]"] if path else []
    return [*header, *lines, *below]


def _value(value: Any) -> str:
    if isinstance(value, SecretStr):
        return _text(MASK)
    if isinstance(value, str | Path):
        return _text(str(value))
    if isinstance(value, tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)  # int and float are written alike in TOML and Python


def _text(text: str) -> str:
    # A JSON string is a TOML string, but for one character that JSON does not escape and TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
