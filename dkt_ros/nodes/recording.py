"""Serialised messages on disk: a spool while the graph runs, then MCAP and arrays. No rclpy."""
from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

RECORD = struct.Struct('<HqI')
SMALL_BYTES = 65_536


@dataclass(frozen=True)
class Entry:
    """
    One message as it came.

    Attributes
    ----------
    topic : str
        Full name.
    received_ns : int
        Wall time of its arrival [ns].
    data : bytes
        CDR, as on the wire.

    """

    topic: str
    received_ns: int
    data: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp of a message that begins with a header [ns]."""
        sec, nanosec = struct.unpack_from('<iI', self.data, 4)
        return sec * 1_000_000_000 + nanosec


class Spool:
    """
    An append-only file of messages: cheap to write while a model needs the processor.

    Parameters
    ----------
    path : Path
        The file; it is deleted by `close`.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open('wb')
        self._topics: list[str] = []
        self._numbers: dict[str, int] = {}

    def add(self, topic: str, received_ns: int, data: bytes) -> None:
        """Append a message."""
        if topic not in self._numbers:
            self._numbers[topic] = len(self._topics)
            self._topics.append(topic)
        self._file.write(RECORD.pack(self._numbers[topic], received_ns, len(data)))
        self._file.write(data)

    def entries(self) -> Iterator[Entry]:
        """Read all messages in the order of arrival."""
        self._file.flush()
        with self._path.open('rb') as file:
            while head := file.read(RECORD.size):
                number, received_ns, size = RECORD.unpack(head)
                yield Entry(self._topics[number], received_ns, file.read(size))

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
    """Return the compressed size of one message of each topic, from the middle of the spool."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    samples: dict[str, list[bytes]] = {}
    for entry in spool.entries():
        kept = samples.setdefault(entry.topic, [])
        kept[:] = [*kept[-1:], entry.data]
    return {topic: max(len(zstd.compress(data)) for data in kept)
            for topic, kept in samples.items()}


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
            for entry in spool.entries():
                if entry.topic in connections and keep(entry):
                    writer.write(connections[entry.topic], entry.received_ns, entry.data)
                    written[entry.topic] = written.get(entry.topic, 0) + 1
        os.replace(next((folder / 'bag').glob('*.mcap')), path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return written
