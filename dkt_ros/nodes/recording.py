"""Serialised messages: a spool while the graph runs, then MCAP and arrays. No rclpy."""
from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

HEADER = struct.Struct('<iI')
SMALL_BYTES = 65_536


@dataclass(frozen=True, eq=False)
class Entry:
    """
    One message in the spool.

    Attributes
    ----------
    topic : str
        Full name.
    received_ns : int
        Wall time of its arrival [ns].
    stamp_ns : int
        The stamp of its header [ns]; without meaning for a message that has none.
    kept : bytes or None
        Its CDR bytes, or None for a message in the file.
    offset, size : int
        Where they lie in the file.

    """

    topic: str
    received_ns: int
    stamp_ns: int
    kept: bytes | None
    offset: int
    size: int


class Spool:
    """
    Messages in memory as they came, and in a file once a share of the memory is full.

    Parameters
    ----------
    path : Path
        The file; it is deleted by `close`.
    room : int, optional
        Bytes that stay in memory; a quarter of what is free if not given.

    """

    def __init__(self, path: Path, room: int | None = None) -> None:
        self._path = path
        self._file = path.open('w+b')
        self._end = 0
        # Writing 90 MB/s takes a tenth of a processor from the model that is recorded.
        self._room = psutil.virtual_memory().available // 4 if room is None else room
        self.entries: list[Entry] = []

    def add(self, topic: str, received_ns: int, data: bytes) -> None:
        """Append a message as it came from the wire."""
        sec, nanosec = HEADER.unpack_from(data, 4) if len(data) >= 12 else (0, 0)
        stamp_ns, offset, kept = sec * 1_000_000_000 + nanosec, self._end, None
        if len(data) <= self._room:
            self._room -= len(data)
            kept = data
        else:
            self._file.seek(offset)
            self._file.write(data)
            self._end += len(data)
        self.entries.append(Entry(topic, received_ns, stamp_ns, kept, offset, len(data)))

    def data(self, entry: Entry) -> bytes:
        """Read the CDR bytes of a message."""
        if entry.kept is not None:
            return entry.kept
        self._file.seek(entry.offset)
        return self._file.read(entry.size)

    def of(self, *topics: str) -> list[Entry]:
        """Return the messages of these topics in the order of arrival."""
        return [entry for entry in self.entries if entry.topic in topics]

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def thinning(sizes: dict[str, int], counts: dict[str, int], max_mb: float) -> int:
    """
    Return n such that each n-th frame of the large topics fits.

    Parameters
    ----------
    sizes : dict of str to int
        Compressed bytes of one message by topic.
    counts : dict of str to int
        Number of messages by topic.
    max_mb : float
        Room [MB].

    """
    total = sum(sizes[topic] * counts[topic] for topic in sizes)
    return max(1, -int(-total // max(max_mb * 1e6, 1)))


def compressed_sizes(spool: Spool) -> dict[str, int]:
    """Return the compressed size [bytes] of one message of each topic."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    sizes = {}
    for topic in {entry.topic for entry in spool.entries}:
        entries = spool.of(topic)
        samples = {entries[len(entries) // 2], entries[-1]}
        sizes[topic] = max(len(zstd.compress(spool.data(entry))) for entry in samples)
    return sizes


def write_mcap(path: Path, spool: Spool, kinds: dict[str, str],
               keep: Callable[[Entry], bool]) -> dict[str, int]:
    """
    Write messages as one zstd-compressed MCAP file, replacing the file in one step.

    Parameters
    ----------
    path : Path
        The file.
    spool : Spool
        The messages.
    kinds : dict of str to str
        Message type by topic, such as sensor_msgs/msg/Image. Other topics are left out.
    keep : callable
        Says of each message whether it is written.

    Returns
    -------
    dict of str to int
        Messages written by topic.

    """
    store = get_typestore(Stores.ROS2_JAZZY)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    written: dict[str, int] = {}
    try:
        writer = Writer(folder / 'bag', version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            connections = {topic: writer.add_connection(topic, kind, typestore=store)
                           for topic, kind in kinds.items()}
            for entry in spool.entries:
                if entry.topic in connections and keep(entry):
                    writer.write(connections[entry.topic], entry.received_ns, spool.data(entry))
                    written[entry.topic] = written.get(entry.topic, 0) + 1
        os.replace(next((folder / 'bag').glob('*.mcap')), path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return written
