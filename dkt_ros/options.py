"""
How configuration classes are declared, checked and read: strict keys, ranges, choices, YAML.

The classes themselves are in `dkt_ros.config`. An unknown key is an error that lists the allowed
ones; a wrong value is an error that names the value, the allowed values and the remedy.
"""
from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dkt_ros.errors import UserError


def option(default: Any, help: str, *, choices: tuple | None = None,
           minimum: float | None = None, maximum: float | None = None,
           read_only: bool = False) -> Any:
    """
    Declare a configuration field.

    Parameters
    ----------
    default : object
        The value when nothing is given.
    help : str
        One sentence for `--help` and the ROS parameter description.
    choices : tuple, optional
        The allowed values.
    minimum, maximum : float, optional
        The allowed range, ends included.
    read_only : bool
        True if a running node cannot apply a change.

    """
    metadata = {'help': help, 'choices': choices, 'minimum': minimum, 'maximum': maximum,
                'read_only': read_only}
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return field(default_factory=lambda: _copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _copy(value: Any) -> Any:
    return dataclasses.replace(value) if dataclasses.is_dataclass(value) else type(value)(value)


@dataclass(frozen=True)
class Config:
    """Base of all configuration classes: checks values, reads strict dictionaries and YAML."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            check_value(f'{type(self).__name__}.{item.name}', getattr(self, item.name), item)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = '') -> typing.Self:
        """
        Build from a nested dictionary.

        Raises
        ------
        UserError
            For an unknown key or a value out of range, with the allowed ones.

        """
        where = where or cls.__name__
        if not isinstance(values, dict):
            raise UserError(f'{where} is {values!r}; a mapping of options is expected')
        known = {item.name: item for item in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        arguments = {}
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f'; did you mean {near[0]!r}?' if near else ''
                raise UserError(f'{where} has no option {key!r}{hint} '
                                 f'Allowed: {", ".join(sorted(known))}')
            kind = hints[key]
            if isinstance(kind, type) and issubclass(kind, Config):
                value = kind.from_dict(value, f'{where}.{key}')
            arguments[key] = coerce(f'{where}.{key}', value, kind)
        return cls(**arguments)

    @classmethod
    def from_yaml(cls, path: str | Path) -> typing.Self:
        """Build from a YAML file; a missing file or a malformed one raises UserError."""
        return cls.from_dict(cls.read_yaml(path), str(path))

    @staticmethod
    def read_yaml(path: str | Path) -> dict[str, Any]:
        """Read the values of a YAML file; a missing or malformed one raises UserError."""
        path = Path(path)
        try:
            return yaml.safe_load(path.read_text()) or {}
        except FileNotFoundError as error:
            raise UserError(f'configuration file {path} does not exist; give the path of a YAML '
                             'file') from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f'configuration file {path} cannot be read: {error}') from error

    def to_dict(self) -> dict[str, Any]:
        """Return a nested dictionary of plain values, as `from_dict` reads."""
        return dataclasses.asdict(self)


def nest(values: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted names into nested dictionaries."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *parents, leaf = name.split('.')
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    return tree


def coerce(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as type `kind` where that loses nothing, else raise UserError."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return None
        kind = next(k for k in kinds if k is not type(None))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        inner = typing.get_args(kind)[0]
        return tuple(coerce(name, item, inner) for item in value)
    plain = typing.get_origin(kind) or kind
    wrong = isinstance(plain, type) and not isinstance(value, plain)
    if wrong or (isinstance(value, bool) and plain in (int, float)):
        raise UserError(f'{name} is {value!r} ({type(value).__name__}); '
                         f'a value of type {getattr(plain, "__name__", plain)} is expected')
    return value


def check_value(name: str, value: Any, item: dataclasses.Field) -> None:
    """Raise UserError if `value` breaks the range or choices declared for `item`."""
    choices = item.metadata.get('choices')
    if choices is not None and value not in choices:
        raise UserError(f'{name} is {value!r}; allowed: {", ".join(map(repr, choices))}')
    low, high = item.metadata.get('minimum'), item.metadata.get('maximum')
    if value is None or (low is None and high is None):
        return
    for number in value if isinstance(value, tuple) else (value,):
        if not ((low is None or number >= low) and (high is None or number <= high)):
            allowed = f'{"-inf" if low is None else low} to {"inf" if high is None else high}'
            raise UserError(f'{name} is {value!r}; allowed: {allowed}')


def require_vector(name: str, value: tuple[float, ...]) -> None:
    """Raise UserError unless `value` is three finite numbers."""
    if len(value) != 3 or not all(map(math.isfinite, value)):
        raise UserError(f'{name} is {value}; three finite numbers are expected')
