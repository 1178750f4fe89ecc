"""Public data sets for people: the list, what is wrong with a copy, pictures."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from dkt_ros.data.datasets.registry import DATASETS, find_sequences
from dkt_ros.data.datasets.sanity import check_sequence
from dkt_ros.errors import UserError
from dkt_ros.tools.montage import scene_panels, write_montage


def run_list() -> dict:
    """Return name, source and licence of every data set that is known."""
    return {'data_sets': [{'name': item.name, 'source': item.source, 'licence': item.licence}
                          for item in DATASETS]}


def list_lines(figures: dict) -> list[str]:
    """Return the list as lines for the screen."""
    return [f'{row["name"]}: {row["source"]}; {row["licence"]}' for row in figures['data_sets']]


def run_check(folder: str | Path, every: int | None = None) -> dict:
    """
    Look for what cannot be right in every sequence below a folder.

    Parameters
    ----------
    folder : str or Path
        A data set or a part of it.
    every : int, optional
        Also read each n-th frame of all.

    Returns
    -------
    dict
        `problems` and `notes` (sentences), `data_sets`, `num_sequences`, `num_frames`.

    """
    sequences, problems = find_sequences(folder), []
    for sequence in sequences:
        problems += check_sequence(sequence)
        for index in range(0, len(sequence), every) if every else ():
            try:
                sequence[index]
            except UserError as error:
                sequence.report(str(error))
        problems += sequence.problems
    return {'problems': list(dict.fromkeys(problems)),
            'notes': list(dict.fromkeys(note for s in sequences for note in s.notes)),
            'data_sets': sorted({s.preset for s in sequences}), 'num_sequences': len(sequences),
            'num_frames': sum(map(len, sequences))}


def run_show(folder: str | Path, out: str | Path, num_sequences: int, num_frames: int) -> dict:
    """Draw frames, evenly spread, of the first sequences; returns `pictures`, one a sequence."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    for sequence in find_sequences(folder)[:num_sequences]:
        places = np.unique(np.linspace(0, len(sequence) - 1, num_frames).astype(int))
        items = [sequence[int(place)] for place in places]
        titles = [f'{sequence.name}, frame {sequence.frame_names[p]}' for p in places]
        path = out / f'{sequence.name}.png'
        write_montage(path, [scene_panels(item) for item in items], titles)
        pictures.append(str(path))
    return {'pictures': pictures}
