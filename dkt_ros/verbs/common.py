"""What the verbs share: how one is registered, options that many have, the end of one."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.config import PRESETS, PerceptionConfig
from dkt_ros.errors import RunError, UserError

Out = Annotated[Path, typer.Option(help='Folder for the results.')]
Json = Annotated[Path | None, typer.Option('--json', help='Also write the figures to this file.')]
Options = Annotated[Path | None, typer.Option('--config', help='YAML file with options.')]
Preset = Annotated[str | None, typer.Option(
    help=f'Latents a window and overlap: {", ".join(PRESETS)}.')]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Model = Annotated[str, typer.Option(help='A bundled model or the path of a model folder.')]


def verb(group: typer.Typer, name: str | None = None) -> Callable[[Callable], Callable]:
    """Register a function as a verb whose mistakes end in one sentence and an exit code."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: object, **kwargs: object) -> None:
            try:
                function(*args, **kwargs)
            except (UserError, RunError) as error:
                typer.secho(f'dkt: {error}', err=True, fg=typer.colors.RED)
                raise typer.Exit(2 if isinstance(error, UserError) else 1) from None
            except KeyboardInterrupt:
                raise typer.Exit(130) from None

        return group.command(name)(run)

    return register


def two_numbers(text: str, separator: str, option: str) -> tuple[int, int]:
    """Read two whole numbers, such as 320x240 or 0/4; anything else is the user's mistake."""
    first, found, second = text.partition(separator)
    if not (found and first.isdecimal() and second.isdecimal()):
        raise UserError(f'{option} is {text!r}; two numbers with {separator!r} between are '
                        'expected')
    return int(first), int(second)


def finish(figures: dict, json: Path | None) -> None:
    """Write the figures of a verb with their provenance, where a file was asked for."""
    if json is not None:
        from dkt_ros.provenance import provenance, write_json
        write_json(json, {**provenance(), **figures})


def perception_options(path: Path | None, preset: str | None) -> PerceptionConfig:
    """Return the options of the YAML file, with the preset of the command line."""
    config = PerceptionConfig.from_yaml(path) if path else PerceptionConfig()
    if preset is None:
        return config
    return dataclasses.replace(config, stream=dataclasses.replace(config.stream, preset=preset))
