"""`dkt prepare`: model folders from published files."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.verbs.common import Json, finish


def prepare(
    base: Annotated[str, typer.Option(
        help='Folder of the published base, or its name on the hub: '
        'alibaba-pai/Wan2.1-Fun-1.3B-Control or -14B-Control.')],
    lora: Annotated[str, typer.Option(
        help='File or folder of the LoRA of DKT, or its name on the hub: '
        'Daniellesry/DKT-Depth-1-3B-v1.1, DKT-Depth-14B, DKT-Normal-14B.')],
    out: Annotated[Path, typer.Option(help='The model folder to write.')],
    prompt_rows: Annotated[Path | None, typer.Option(
        help='safetensors file with the text embedding of each task; without it the text encoder '
        'of the base is run once.')] = None,
    tokenizer: Annotated[str | None, typer.Option(
        help='Folder of google/umt5-xxl; that inside the base if not given.')] = None,
    tasks: Annotated[str | None, typer.Option(
        help='What the LoRA was trained for: depth, normal; told by its name if not given.',
    )] = None,
    dtype: Annotated[str, typer.Option(
        help='How the transformer is stored: bfloat16, float16, float32.')] = 'bfloat16',
    head_dim: Annotated[int, typer.Option(
        min=2, help='Channels of an attention head.')] = 128,
    json: Json = None,
) -> None:
    """
    Make a model folder of the published base and a LoRA of DKT.

    Example: `dkt prepare --base Wan2.1-Fun-1.3B-Control --lora DKT-Depth-1-3B-v1.1 --out dkt-1.3b`
    """
    from dkt_ros.tools.prepare import PrepareRequest, run_prepare
    names = tuple(name.strip() for name in tasks.split(',')) if tasks else None
    finish(run_prepare(PrepareRequest(base, lora, out, prompt_rows, tokenizer, names, dtype,
                                      head_dim)), json)
