"""The options of `dkt bench model`."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.config import ATTENTIONS, EXECUTIONS, OVERLAP_CHOICES, PRECISIONS, StreamConfig
from dkt_ros.options import Config, option

SHAPES = ('1.3b', '14b')


@dataclass(frozen=True)
class BenchModelConfig(Config):
    """What `dkt bench model` times."""

    sizes: str = option('832x480,640x480', 'Working sizes [px], with commas between.')
    presets: str = option('faithful,balanced', 'Window shapes, with commas between.')
    steps: str = option('1,3,5', 'Denoising steps, with commas between.')
    layers: int = option(0, 'Layers of the transformer; 0 takes all. Fewer are for machines that '
                         'cannot hold or time the whole.', minimum=0, maximum=100)
    repeats: int = option(3, 'How often each stage is timed; the median counts.', minimum=1,
                          maximum=100)
    device: str = option('auto', 'Where the model runs: `auto`, `cpu`, `cuda` or `cuda:N`.')
    execution: str = option('auto', 'Who computes a step of the model.', choices=EXECUTIONS)
    precision: str = option('auto', 'Arithmetic of the large products.', choices=PRECISIONS)
    reference: bool = option(True, 'Also time the network unfolded, with the whole context and '
                             'rotary tables in float64, as the reference runs it.')
    stages: bool = option(True, 'Time the stages of a frame; without them only what folding '
                          'takes off a step.')
    overlap: str = option(StreamConfig.overlap, 'How a live window knows the one before.',
                          choices=OVERLAP_CHOICES)
    attention: str = option('auto', "Torch's kernel for self-attention.", choices=ATTENTIONS)
    decoder: str = option('', "File of a small decoder in TAEHV's layout to decode with.")
    normals: str = option('', 'Time a model for normals beside it: a folder, or with a shape '
                          'another shape.')
