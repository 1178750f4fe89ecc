"""
`dkt prepare`: the published base, and a LoRA of DKT if one is given, become a model folder.

Everything is checked before anything is written; the transformer is then written tensor by tensor,
so that memory holds one shard and not the model. What is not complete never gets its name.
"""
from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.torch import save_file

import dkt_ros
from dkt_ros.errors import RunError, UserError
from dkt_ros.model.checkpoint import Checkpoint, find_weights
from dkt_ros.model.checks import check_choice
from dkt_ros.model.folder import MANIFEST, WEIGHTS_NAME, check_model_folder, replace_folder
from dkt_ros.model.imaging import TASKS
from dkt_ros.model.pipeline import SCHEDULE_SHIFT, DKTPipeline
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.released import (
    HEAD_DIM,
    check_tensors,
    convert_vae,
    lora_pairs,
    merge_pair,
    shapes_of,
    transformer_config,
    transformer_key,
    vae_config,
)
from dkt_ros.model.text_encoder import NUM_TOKENS, encode_words, load_text_encoder

TRANSFORMER_FILES = 'diffusion_pytorch_model*.safetensors'
VAE_NAMES = ('Wan2.1_VAE.safetensors', 'Wan2.1_VAE.pth')
TEXT_ENCODER_NAME = 'models_t5_umt5-xxl-enc-bf16.pth'
TOKENIZER = 'google/umt5-xxl'
HUB_FILES = (TRANSFORMER_FILES, TRANSFORMER_FILES + '.index.json', 'Wan2.1_VAE.*')
SHARD_BYTES = 1 << 30
SPARE_BYTES = 64 << 20
DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16, 'float32': torch.float32}


@dataclass(frozen=True)
class PrepareRequest:
    """
    What is to become a model folder.

    Attributes
    ----------
    base : str
        Folder of the published base, or its name on the hub.
    lora : str or None
        File or folder of the LoRA, or its name on the hub; None makes the folder of the bare base
        that `dkt train` starts from.
    out : Path
        The model folder; an older one there is replaced.
    prompt_rows : Path, optional
        safetensors file with the rows of each task; without it the text encoder is run.
    tokenizer : str, optional
        Folder of google/umt5-xxl; that inside the base when not given.
    tasks : tuple of str, optional
        What the LoRA was trained for; told by its name when not given, all for a bare base.
    dtype : str
        How the transformer is stored, a key of `DTYPES`.
    head_dim : int
        Channels of an attention head.

    """

    base: str
    lora: str | None
    out: Path
    prompt_rows: Path | None = None
    tokenizer: str | None = None
    tasks: tuple[str, ...] | None = None
    dtype: str = 'bfloat16'
    head_dim: int = HEAD_DIM


@dataclass(frozen=True)
class _Source:
    """The published files, opened and checked against one another."""

    transformer: Checkpoint
    lora: Checkpoint | None
    vae: Checkpoint
    config: dict
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    vae_config: dict

    @property
    def paths(self) -> list[Path]:
        return [path for checkpoint in (self.transformer, self.vae, self.lora) if checkpoint
                for path in checkpoint.paths]


def run_prepare(request: PrepareRequest, console: Console | None = None) -> dict:
    """
    Write the model folder.

    Returns
    -------
    dict
        What the manifest holds.

    Raises
    ------
    UserError
        If a file is missing, broken, of another model or a pickle with code in it, or if there is
        too little space; nothing is written then.

    """
    console = console or Console()
    check_choice('dtype', request.dtype, tuple(DTYPES))
    check_out(request.out)
    base = _local(request.base, HUB_FILES if request.prompt_rows else
                  (*HUB_FILES, TEXT_ENCODER_NAME, TOKENIZER + '/*'))
    lora = None if request.lora is None else _local(request.lora, ('*.safetensors',))
    tasks = request.tasks or guess_tasks(request.lora)
    for task in tasks:
        check_choice('task', task, TASKS)
    source = _open(base, lora, request.head_dim)
    rows = _rows(request, base, tasks, source.config['text_dim'], console)
    dtype = DTYPES[request.dtype]
    need = _check_space(request.out, source, dtype)
    manifest: dict = {}

    def write(folder: Path) -> None:
        with _progress(console) as progress:
            files = progress.add_task('write', total=need)
            _write(folder, source, rows, dtype, lambda n: progress.advance(files, n))
            manifest.update(_manifest(folder, source, request, tasks, progress))
        check_model_folder(folder, DKTPipeline.__name__)

    try:
        replace_folder(request.out, write)
    except (OSError, SafetensorError) as error:
        raise RunError(f'{request.out} could not be written ({error}); nothing of it was '
                       'left') from error
    console.print(f'{request.out}: {source.config["num_layers"]} layers of '
                  f'{source.config["num_attention_heads"] * request.head_dim} channels, task '
                  f'{", ".join(tasks)}, {sum(f["bytes"] for f in manifest["files"]) / 1e9:.2f} '
                  'GB', highlight=False)
    if request.lora is None:
        console.print('no LoRA was given: this is the base that `dkt train` starts from; depth '
                      'out of it is that of an untrained model', highlight=False)
    return manifest


def check_out(out: Path) -> None:
    """Raise UserError if `out` holds something else than a model folder."""
    if out.is_dir() and any(out.iterdir()) and not (out / 'model_index.json').is_file():
        raise UserError(f'{out} is there and is no model folder; name another one with --out')
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is a file; name a folder with --out')


def guess_tasks(lora: str | None) -> tuple[str, ...]:
    """Return the task that the name of a LoRA tells; a bare base may be trained for any."""
    if lora is None:
        return TASKS
    return ('normal',) if 'normal' in Path(lora).name.lower() else ('depth',)


def _local(name: str, patterns: Sequence[str]) -> Path:
    """Return a path on this disk, after a download if `name` is one of the hub."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.count('/') != 1 or name.startswith(('.', '/', '~')):
        raise UserError(f'{name} does not exist; give a folder, or a name on the hub such as '
                        'alibaba-pai/Wan2.1-Fun-1.3B-Control')
    try:
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # noqa: BLE001, the client's errors have no common base
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{name} is no folder here and cannot be had from the hub ({reason}); '
                        'download it elsewhere and give the folder') from error


def _open(base: Path, lora: Path | None, head_dim: int) -> _Source:
    if not base.is_dir():
        raise UserError(f'{base} is no folder; give the folder of the published base')
    transformer = Checkpoint(find_weights(base, TRANSFORMER_FILES))
    names = {key: transformer_key(key) for key in transformer}
    config = transformer_config(transformer, head_dim)
    with torch.device('meta'):
        expected = shapes_of(WanTransformer3DModel(**config))
    check_tensors(expected, {names[key]: shape for key, shape in transformer.shapes.items()})
    vae = Checkpoint([_vae_file(base)])
    vae_options = vae_config(vae)
    with torch.device('meta'):
        expected = shapes_of(AutoencoderKLWan(**vae_options))
    check_tensors(expected, {key: value.shape for key, value in convert_vae(vae).items()})
    _check_fit(config, vae_options)
    changes = None if lora is None else Checkpoint(
        find_weights(lora, '*.safetensors') if lora.is_dir() else [lora])
    return _Source(transformer, changes, vae, config,
                   lora_pairs(transformer.shapes, changes or {}), vae_options)


def _vae_file(base: Path) -> Path:
    for name in VAE_NAMES:
        if (base / name).is_file():
            return base / name
    raise UserError(f'{base} has neither {" nor ".join(VAE_NAMES)}; give the folder of the '
                    'published base')


def _check_fit(config: dict, vae: dict) -> None:
    z = vae['z_dim']
    if config['out_channels'] != z or config['in_channels'] < 2 * z:
        raise UserError(f'the transformer takes {config["in_channels"]} channels and gives '
                        f'{config["out_channels"]}; with the {z} latent channels of the VAE a '
                        f'Fun-Control model takes {2 * z} or more: give Wan2.1-Fun-*-Control, '
                        'not a text- or image-to-video model')


def _rows(request: PrepareRequest, base: Path, tasks: Sequence[str], text_dim: int,
          console: Console) -> PromptRows:
    if request.prompt_rows is not None:
        rows = read_rows(request.prompt_rows, tasks, text_dim)
    else:
        console.print('running the text encoder once', highlight=False)
        encoder = load_text_encoder(Checkpoint([base / TEXT_ENCODER_NAME]))
        rows = encode_words(encoder, request.tokenizer or base / TOKENIZER, tasks)
        _check_rows(rows, text_dim, TEXT_ENCODER_NAME)
    return PromptRows.from_rows(rows, NUM_TOKENS)


def read_rows(path: Path, tasks: Sequence[str], text_dim: int) -> dict[str, torch.Tensor]:
    """Return the rows (n, text_dim) of each task in a safetensors file, padding cut off."""
    stored = Checkpoint([path])
    rows = {}
    for task in tasks:
        if task not in stored:
            raise UserError(f'{path} has no rows for task {task!r}, only '
                            f'{", ".join(sorted(stored))}; add them, or name the tasks with '
                            '--tasks')
        row = stored[task].float()
        row = row.reshape(-1, row.shape[-1])
        used = row.abs().sum(1).nonzero()
        rows[task] = row[:int(used.max()) + 1 if len(used) else 1]
    _check_rows(rows, text_dim, path)
    return rows


def _check_rows(rows: dict[str, torch.Tensor], text_dim: int, origin: object) -> None:
    for task, row in rows.items():
        if row.shape[1] != text_dim or not 1 <= len(row) <= NUM_TOKENS \
                or not row.isfinite().all():
            raise UserError(f'the rows of {task!r} from {origin} are {tuple(row.shape)}; the '
                            f'transformer wants 1 to {NUM_TOKENS} finite rows of {text_dim}')


def _check_space(out: Path, source: _Source, dtype: torch.dtype) -> int:
    """Return how many bytes will be written; raise UserError if they do not fit."""
    def size(checkpoint: Checkpoint, width: int) -> int:
        return sum(width * torch.Size(shape).numel() for shape in checkpoint.shapes.values())

    need = size(source.transformer, dtype.itemsize) + size(source.vae, 4)
    existing = next(parent for parent in out.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if free < need + SPARE_BYTES:
        raise UserError(f'{out} needs {(need + SPARE_BYTES) / 1e9:.2f} GB and {existing} has '
                        f'{free / 1e9:.2f} GB free; make room or name another folder')
    return need


def _write(folder: Path, source: _Source, rows: PromptRows, dtype: torch.dtype,
           advance: Callable[[int], None]) -> None:
    with torch.device('meta'):
        transformer = WanTransformer3DModel(**source.config)
        vae = AutoencoderKLWan(**source.vae_config)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SCHEDULE_SHIFT)
    DKTPipeline(transformer, vae, scheduler, rows).save_config(folder)
    for name, part in (('transformer', transformer), ('vae', vae)):
        part.save_config(folder / name)
    scheduler.save_pretrained(folder / 'scheduler')
    rows.save_pretrained(folder / 'prompt_rows')

    def merged() -> Iterable[tuple[str, torch.Tensor]]:
        for key in source.transformer:
            value = source.transformer[key]
            if key in source.pairs:
                value = merge_pair(value, source.pairs[key])
            yield transformer_key(key), value.to(dtype).contiguous()

    sizes = {transformer_key(key): dtype.itemsize * torch.Size(shape).numel()
             for key, shape in source.transformer.shapes.items()}
    write_shards(folder / 'transformer', merged(), sizes, SHARD_BYTES, advance)
    state = {key: value.float().contiguous() for key, value in convert_vae(source.vae).items()}
    save_file(state, folder / 'vae' / WEIGHTS_NAME, {'format': 'pt'})
    advance(sum(value.nbytes for value in state.values()))


def write_shards(folder: Path, tensors: Iterable[tuple[str, torch.Tensor]],
                 sizes: dict[str, int], limit: int, advance: Callable[[int], None]) -> None:
    """
    Write tensors as they come into safetensors files of about `limit` bytes, with an index.

    Parameters
    ----------
    folder : Path
        The component's.
    tensors : iterable of (str, tensor)
        In the order of `sizes`; one shard of them is in memory at a time.
    sizes : dict of str to int
        Bytes of each.
    limit : int
        A shard is closed before it would grow beyond this.
    advance : callable
        Told the bytes written.

    """
    places, used = [], limit + 1
    for size in sizes.values():
        if used + size > limit:
            places.append(0)
            used = 0
        places[-1] += 1
        used += size
    stem, suffix = WEIGHTS_NAME.rsplit('.', 1)
    names = [WEIGHTS_NAME] if len(places) == 1 else [
        f'{stem}-{i + 1:05d}-of-{len(places):05d}.{suffix}' for i in range(len(places))]
    stream, weight_map = iter(tensors), {}
    for name, count in zip(names, places, strict=True):
        shard = dict(next(stream) for _ in range(count))
        save_file(shard, folder / name, {'format': 'pt'})
        weight_map |= dict.fromkeys(shard, name)
        advance(sum(value.nbytes for value in shard.values()))
        del shard
    if len(names) > 1:
        index = {'metadata': {'total_size': sum(sizes.values())}, 'weight_map': weight_map}
        (folder / f'{WEIGHTS_NAME}.index.json').write_text(json.dumps(index, indent=2))


def _manifest(folder: Path, source: _Source, request: PrepareRequest, tasks: Sequence[str],
              progress: Progress) -> dict:
    written = sorted(path for path in folder.rglob('*') if path.is_file())
    bar = progress.add_task('SHA-256', total=sum(path.stat().st_size
                                                 for path in [*source.paths, *written]))

    def entry(path: Path, name: str) -> dict:
        digest = sha256(path, lambda n: progress.advance(bar, n))
        return {'name': name, 'bytes': path.stat().st_size, 'sha256': digest}

    manifest = {
        'dkt_ros': dkt_ros.__version__, 'base': Path(request.base).name,
        'lora': request.lora and Path(request.lora).name,
        'tasks': list(tasks), 'dtype': request.dtype,
        'sources': [entry(path, path.name) for path in source.paths],
        'files': [entry(path, str(path.relative_to(folder))) for path in written]}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n')
    return manifest


def sha256(path: Path, advance: Callable[[int], None] = lambda n: None) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _progress(console: Console) -> Progress:
    return Progress(TextColumn('{task.description}'), BarColumn(), DownloadColumn(),
                    TimeRemainingColumn(), console=console)
