"""`dkt ablate`: one thing varied at a time."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.verbs.common import Json, Out, finish


def ablate(
    config: Annotated[Path, typer.Argument(help='YAML file of the study: data and axes.')],
    out: Out = Path('ablate_out'),
    json: Json = None,
) -> None:
    """
    Measure what each choice is worth; goes on where it stopped.

    Example: `dkt ablate config/ablate.yaml --out ablate_out`
    """
    from dkt_ros.ablate_config import AblateConfig
    from dkt_ros.tools.ablate import run_ablate
    finish(run_ablate(AblateConfig.from_yaml(config), out), json)
