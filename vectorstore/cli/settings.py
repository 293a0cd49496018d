"""Defaults of the command line from a file: what one would otherwise type every time.

A key is an option's name without its dashes. At the top it is for every command that has the option, in the table of a
command (`[search]`, `[workflows.list]`) for that one; the nearest counts. An option on the command line is stronger,
and so is a variable of the environment. Nothing is guessed: a key that no command has is an error.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vectorstore.errors import ValidationError

VARIABLE = "VECTORSTORE_CONFIG"


def place() -> tuple[Path, bool]:
    """Where the file is looked for, and whether somebody named it."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser(), True
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "vectorstore" / "config.toml", False


def settings(group: Any) -> dict[str, Any]:
    """What the file says, as the defaults of the group's commands; nothing when there is no file.

    Args:
        group: the command that has all others below it.

    Raises:
        ValidationError: the file that was named is not there, or one cannot be read; a key or a value is wrong.
    """
    path, named = place()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise ValidationError(f"{VARIABLE}: there is no file {path}", value=str(path)) from None
        return {}
    except (OSError, ValueError) as error:  # of ValueError are both what is no TOML and what is no UTF-8
        raise ValidationError(f"{path}: {error}", value=str(path)) from None
    return _defaults(group, told, {}, str(path))


def _defaults(group: Any, told: Mapping[str, Any], above: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The defaults of the commands of a group: {command: {parameter: value}}."""
    here = {key: value for key, value in told.items() if not isinstance(value, dict)}
    known = set(_names(group))
    for key, value in told.items():
        if isinstance(value, dict) and key not in group.commands:
            raise ValidationError(f"{where}: [{key}]: no such command; there are {', '.join(group.commands)}")
        if not isinstance(value, dict) and key not in known:
            raise ValidationError(f"{where}: {key}: no command has an option --{key}; options are {_listed(known)}")
    common = {**above, **here}
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        own = told.get(name, {})
        if hasattr(command, "commands"):
            found[name] = _defaults(command, own, common, f"{where}: {name}")
            continue
        options = dict(options_of(command))
        for key in own:
            if key not in options:
                raise ValidationError(
                    f"{where}: {name}.{key}: the command has no option --{key}; its options are {_listed(options)}"
                )
        chosen = {key: value for key, value in {**common, **own}.items() if key in options}
        found[name] = {options[key].name: _checked(options[key], value, key, where) for key, value in chosen.items()}
    return found


def options_of(command: Any) -> Iterator[tuple[str, Any]]:
    """(name without dashes, option) of what a command takes and tells of."""
    for option in command.params:
        if option.param_type_name == "option" and not option.hidden and not option.is_eager:
            yield max(option.opts, key=len).lstrip("-"), option


def _names(group: Any) -> Iterator[str]:
    for command in group.commands.values():
        yield from _names(command) if hasattr(command, "commands") else (name for name, _ in options_of(command))


def _checked(option: Any, value: Any, key: str, where: str) -> Any:
    """The value, if it is of the option's shape; what it may be beyond that is the command's business."""
    if option.is_flag:
        right, words = isinstance(value, bool), "true or false"
    elif option.multiple:
        right, words = isinstance(value, list) and all(isinstance(each, str) for each in value), "a list of strings"
    else:
        right, words = isinstance(value, str | int | float) and not isinstance(value, bool), "a string or a number"
    if not right:
        raise ValidationError(f"{where}: {key}: expected {words}, got {value!r}", value=value)
    return value if option.is_flag or option.multiple else str(value)


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
