"""ROS parameters declared from a configuration dataclass, with its descriptions and ranges."""
from __future__ import annotations

import array
import dataclasses
import difflib
import sys
import typing
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from dkt_ros.errors import UserError
from dkt_ros.options import Config, check_value, coerce, nest

FOREIGN_PREFIXES = ('qos_overrides.',)


@dataclasses.dataclass(frozen=True)
class Option:
    """One leaf of a nested configuration: its dotted name, type, and dataclass field."""

    name: str
    kind: Any
    field: dataclasses.Field
    default: Any

    @property
    def read_only(self) -> bool:
        """True if a running node cannot apply a change."""
        return bool(self.field.metadata.get('read_only'))

    def check(self, value: Any) -> Any:
        """Return the value as this option's type; raise ValueError if it is not allowed."""
        if isinstance(value, array.array):
            value = value.tolist()
        value = coerce(self.name, value, self.kind)
        check_value(self.name, value, self.field)
        return value


def options_of(config: Config, prefix: str = '') -> dict[str, Option]:
    """List the leaves of a configuration by dotted name, such as `stream.preset`."""
    hints = typing.get_type_hints(type(config))
    found = {}
    for item in dataclasses.fields(config):
        value, name = getattr(config, item.name), prefix + item.name
        if isinstance(value, Config):
            found.update(options_of(value, f'{name}.'))
        else:
            found[name] = Option(name, hints[item.name], item, value)
    return found


class NodeParameters:
    """
    The parameters of a node, as a configuration.

    Values from YAML or the command line that are wrong or unknown do not stop the node from
    starting; `config` then raises, so that configure can fail with the sentence.

    Parameters
    ----------
    node : Node
        Gets the parameters declared.
    defaults : Config
        Type and default values.
    locked : callable
        True while options that are read only for a running node must not change.
    changed : callable
        Called with the new configuration after a change was accepted.

    """

    def __init__(self, node: Node, defaults: Config,
                 locked: Callable[[], bool] = lambda: True,
                 changed: Callable[[Config], None] = lambda config: None) -> None:
        self._node = node
        self._type = type(defaults)
        self._options = options_of(defaults)
        self._locked = locked
        self._changed = changed
        self._problems: dict[str, str] = {}
        # The overrides are the only place where unknown names can be seen.
        overrides = {name: parameter.value
                     for name, parameter in getattr(node, '_parameter_overrides', {}).items()}
        for option in self._options.values():
            self._declare(option, overrides)
        self._find_unknown(overrides)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)

    def config(self) -> Config:
        """
        Return the current values.

        Raises
        ------
        UserError
            If a parameter given is unknown or has a wrong value.

        """
        if self._problems:
            raise UserError('; '.join(self._problems.values()))
        return self._build({})

    def _build(self, changes: dict[str, Any]) -> Config:
        values = {name: option.check(changes.get(name, self._node.get_parameter(name).value))
                  for name, option in self._options.items()}
        try:
            return self._type.from_dict(nest(values), 'parameters')
        except ValueError as error:
            raise UserError(str(error)) from error

    def _declare(self, option: Option, overrides: dict[str, Any]) -> None:
        value = option.default
        if option.name in overrides:
            try:
                value = option.check(overrides[option.name])
            except ValueError as error:
                self._problems[option.name] = f'parameter {error}'
        value = list(value) if isinstance(value, tuple) else value
        self._node.declare_parameter(option.name, value, describe(option), ignore_override=True)

    def _find_unknown(self, overrides: dict[str, Any]) -> None:
        for name in overrides:
            if self._node.has_parameter(name) or name.startswith(FOREIGN_PREFIXES):
                continue
            near = difflib.get_close_matches(name, self._options, n=1)
            hint = f'did you mean {near[0]!r}? ' if near else ''
            self._problems[name] = (
                f'parameter {name!r} is unknown to {self._node.get_name()}; {hint}Allowed: '
                f'{", ".join(self._options)}')

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {}
        for parameter in parameters:
            option = self._options.get(parameter.name)
            if option is None:
                continue
            if option.read_only and self._locked():
                return SetParametersResult(successful=False, reason=(
                    f'{option.name} cannot change in a running node; deactivate it, clean it up, '
                    'set the parameter and configure it again'))
            changes[option.name] = parameter.value
        try:
            self._build(changes)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _after_set(self, parameters: list[Parameter]) -> None:
        ours = [parameter.name for parameter in parameters if parameter.name in self._options]
        for name in ours:
            self._problems.pop(name, None)
        if ours:
            self._changed(self._build({}))


def describe(option: Option) -> ParameterDescriptor:
    """Return the descriptor of an option: what it does, and its range or choices."""
    meta = option.field.metadata
    text = meta.get('help', '')
    if option.read_only:
        text += ' Not while the node is configured.'
    descriptor = ParameterDescriptor(name=option.name, description=text)
    if meta.get('choices'):
        descriptor.additional_constraints = 'One of: ' + ', '.join(map(str, meta['choices']))
    low, high = meta.get('minimum'), meta.get('maximum')
    if low is None and high is None:
        return descriptor
    if option.kind is int:
        descriptor.integer_range = [IntegerRange(
            from_value=-2**63 if low is None else int(low),
            to_value=2**63 - 1 if high is None else int(high), step=1)]
    elif option.kind is float:
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=-sys.float_info.max if low is None else float(low),
            to_value=sys.float_info.max if high is None else float(high))]
    return descriptor
