"""Environment of the processes that exchange images: Fast DDS with room for them. No ROS."""
from __future__ import annotations

from collections.abc import Mapping

from dkt_ros.resources import share_path

PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
OLD_DISTROS = ('humble', 'iron', 'jazzy')
"""Their Fast DDS reads the second variable; later ones read the first and warn of the second."""


def profile_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variable to add to `environ` for the package's Fast DDS profile.

    Nothing is returned if the user has set a profile of his own.
    """
    if any(environ.get(name) for name in PROFILE_VARIABLES):
        return {}
    name = PROFILE_VARIABLES[environ.get('ROS_DISTRO') in OLD_DISTROS]
    return {name: str(share_path('config', 'fastdds.xml'))}
