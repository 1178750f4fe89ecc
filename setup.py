"""Build script: setup.cfg holds the metadata, this file lists what goes under share/."""
from pathlib import Path

from setuptools import setup

SHARE = Path('share/dkt_ros')


def shared_files() -> list[tuple[str, list[str]]]:
    """Return (destination folder, files) for each folder of launch, config, models and clips."""
    files = {}
    for top in ('launch', 'config', 'models', 'clips'):
        for path in sorted(Path(top).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                files.setdefault(str(SHARE / path.parent), []).append(str(path))
    return list(files.items())


setup(
    python_requires='>=3.11',  # colcon cannot read it from setup.cfg
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/dkt_ros']),
        (str(SHARE), ['package.xml']),
        *shared_files(),
    ],
)
