"""Render on a Ray cluster: each task takes a shard; all machines write to one shared folder."""
from __future__ import annotations

from pathlib import Path

from dkt_ros.config import RenderConfig
from dkt_ros.errors import UserError

TASKS_A_CORE = 4
"""Shards are finer than cores, so that a slow one does not hold up the end."""


def run_farm(address: str, out: str | Path, num_scenes: int, seed: int,
             config: RenderConfig) -> dict:
    """
    Render scenes on the cluster at `address`; returns the summed counts of `run_render`.

    Every machine needs dkt_ros, an interpreter with bpy and `out` under the same path. A task that
    is lost is started again and skips what is written.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(f'--ray {address} needs ray, which is not installed; install it with '
                        "pip install 'dkt_ros[farm]'") from error
    try:
        ray.init(address=address, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f'no Ray cluster answers at {address} ({error}); give the address that '
                        '`ray start --head` printed, or `auto`') from error
    cores = max(1, int(ray.cluster_resources().get('CPU', 1)))
    count = min(num_scenes, cores * TASKS_A_CORE)
    render = ray.remote(num_cpus=1, max_retries=3)(render_shard)
    values = {**config.to_dict(), 'workers': 1}
    counts = ray.get([render.remote(str(Path(out).resolve()), num_scenes, seed, values,
                                    (index, count)) for index in range(count)])
    return sum_counts(counts)


def render_shard(out: str, num_scenes: int, seed: int, values: dict,
                 shard: tuple[int, int]) -> dict:
    """Render one shard in a process of the cluster."""
    from dkt_ros.tools.render.run import run_render
    return run_render(out, num_scenes, seed, RenderConfig.from_dict(values), shard)


def sum_counts(counts: list[dict]) -> dict:
    """Add up what the shards report."""
    return {key: sum(item[key] for item in counts) for key in ('rendered', 'skipped', 'rejected')}
