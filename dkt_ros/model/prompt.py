"""
The stored prompt rows: what the text encoder once said for each task, so that none is loaded.

The reference pads its prompt with zero rows and lets the network attend to the padding; the
padding is therefore restored here, up to `num_text_tokens`.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from dkt_ros.errors import UserError


class PromptRows(ModelMixin, ConfigMixin):
    """
    One matrix of text embeddings a task.

    Parameters
    ----------
    tasks : list of str
        Names of the tasks.
    num_rows : list of int
        Number of stored rows of each task.
    text_dim : int
        Length of a row.
    num_text_tokens : int
        Number of rows the network is given; the rest is zero.

    """

    @register_to_config
    def __init__(self, tasks: Sequence[str] = (), num_rows: Sequence[int] = (), text_dim: int = 1,
                 num_text_tokens: int = 1) -> None:
        super().__init__()
        if len(tasks) != len(num_rows) or max(num_rows, default=0) > num_text_tokens:
            raise ValueError(f'prompt rows: {len(tasks)} tasks, rows {list(num_rows)}, room for '
                             f'{num_text_tokens}; give one count a task, none above the room')
        self.rows = torch.nn.ParameterDict({
            task: torch.nn.Parameter(torch.zeros(count, text_dim), requires_grad=False)
            for task, count in zip(tasks, num_rows, strict=True)})

    @classmethod
    def from_rows(cls, rows: dict[str, torch.Tensor],
                  num_text_tokens: int | None = None) -> PromptRows:
        """Build from one (n, text_dim) tensor a task; all tasks share `text_dim`."""
        if not rows or len({row.shape[-1] for row in rows.values()}) != 1:
            raise ValueError(f'prompt rows have the shapes '
                             f'{ {task: tuple(row.shape) for task, row in rows.items()} }; '
                             'give one (n, text_dim) tensor for each task, of one text_dim')
        counts = [row.shape[0] for row in rows.values()]
        module = cls(list(rows), counts, next(iter(rows.values())).shape[-1],
                     num_text_tokens or max(counts))
        with torch.no_grad():
            for task, row in rows.items():
                module.rows[task].copy_(row)
        return module

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.config.tasks)

    def forward(self, tasks: Sequence[str]) -> torch.Tensor:
        """Return the padded rows of each task, (len(tasks), num_text_tokens, text_dim)."""
        padded = []
        for task in tasks:
            if task not in self.tasks:
                raise UserError(f'task is {task!r}; this model has: '
                                f'{", ".join(map(repr, self.tasks))}')
            row = self.rows[task]
            padded.append(torch.nn.functional.pad(
                row, (0, 0, 0, self.config.num_text_tokens - row.shape[0])))
        return torch.stack(padded)
