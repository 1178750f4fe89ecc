"""A run whose weights are split between two processes learns what one process learns."""
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('accelerate', reason='accelerate is not installed: pip install .[train]')

import torch  # noqa: E402
from fsdp_run import STEPS, sharded  # noqa: E402
from lora_run import make_base, make_data  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dkt_ros.errors import UserError  # noqa: E402
from dkt_ros.model.pipeline import DKTPipeline  # noqa: E402
from dkt_ros.tools.train.lora import run_lora  # noqa: E402
from dkt_ros.tools.train.sharding import as_launched  # noqa: E402

HERE = Path(__file__).parent


def launch(root, rank):
    environment = {**os.environ, 'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': '2',
                   'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(31500 + os.getpid() % 2000),
                   'ACCELERATE_USE_CPU': 'true', 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': os.pathsep.join([str(HERE.parent), str(HERE)])}
    return subprocess.Popen([sys.executable, str(HERE / 'fsdp_run.py'), str(root)],
                            env=environment, stderr=subprocess.PIPE, text=True)


def logged(folder, key='loss'):
    return [json.loads(line)[key] for line in (folder / 'log.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Runs of two processes that share the weights out, and the same of one that has them all."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp('fsdp')
    make_base(root / 'base')
    make_data(root)
    children = [launch(root, rank) for rank in range(2)]
    try:
        run_lora(sharded(root, 'one'))  # alone, `fsdp` has nobody to share with
        run_lora(sharded(root, 'one_full', steps=2, method='full'))
        for child in children:
            _, errors = child.communicate(timeout=900)
            assert child.returncode == 0, errors[-3000:]
    finally:
        for child in children:
            child.kill()
    return root


@pytest.mark.slow
def test_two_processes_with_half_the_weights_each_learn_what_one_does(root):
    for key in ('loss', 'norm'):
        one, two = logged(root / 'one', key), logged(root / 'two', key)
        assert len(one) == len(two) == STEPS
        np.testing.assert_allclose(two, one, atol=1e-4)
    one, two = (load_file(root / name / 'lora.safetensors') for name in ('one', 'two'))
    assert one.keys() == two.keys() and len(one) == 40  # in the layout of the released files
    for key, value in one.items():  # half a step of Adam, where gradients are all but zero
        torch.testing.assert_close(two[key], value, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_each_process_holds_its_share_of_weights_moments_and_averages(root):
    held = [json.loads((root / f'held-{rank}.json').read_text()) for rank in range(2)]
    assert [one['read'] for one in held] == [True, False]  # one reads the base from disk
    for whole, part in (('total', 'held'), ('learnt', 'learnt_here'), ('learnt', 'moments'),
                        ('learnt', 'average')):
        assert sum(one[part] for one in held) == held[0][whole]  # everything once
        assert all(0.45 < one[part] / one[whole] < 0.55 for one in held)
    assert all(one['in_memory'] < 0.55 * one['total'] for one in held)


@pytest.mark.slow
def test_resume_is_exact_and_does_not_ask_for_the_same_processes(root, tmp_path):
    # Step 4 was made twice: once before the end, once after going back to step 3.
    losses, whole = logged(root / 'broken'), logged(root / 'two')
    assert losses[:4] + losses[5:] == whole and losses[3] == losses[4]
    expected = load_file(root / 'two' / 'lora.safetensors')
    resumed = load_file(root / 'broken' / 'lora.safetensors')
    assert all(torch.equal(value, expected[key]) for key, value in resumed.items())
    for name in ('one', 'two'):  # what two processes began, one ends
        shutil.copytree(root / name, tmp_path / name)
        run_lora(dataclasses.replace(sharded(root, name), run=str(tmp_path / name),
                                     steps=STEPS + 2), resume=True)
    np.testing.assert_allclose(logged(tmp_path / 'two'), logged(tmp_path / 'one'), atol=1e-4)


@pytest.mark.slow
def test_bfloat16_validation_and_full_fine_tuning_are_sharded_too(root):
    assert logged(root / 'bf16')[0] == pytest.approx(logged(root / 'two')[0], rel=0.05)
    lines = (root / 'bf16' / 'validation.jsonl').read_text().splitlines()
    assert len(lines) == 1 and 0 < json.loads(lines[0])['all_rel'] < 1
    assert (root / 'bf16' / 'samples' / '000001.png').is_file()
    np.testing.assert_allclose(logged(root / 'full'), logged(root / 'one_full'), atol=1e-4)
    one, two = (DKTPipeline.from_pretrained(root / name / 'model').transformer.state_dict()
                for name in ('one_full', 'full'))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-3, rtol=0)  # stored in half precision


def test_what_the_launcher_asks_for_counts(tmp_path, monkeypatch):
    config = dataclasses.replace(sharded(tmp_path, 'run'), fsdp=False)
    monkeypatch.delenv('ACCELERATE_USE_FSDP', raising=False)
    assert not as_launched(config).fsdp
    monkeypatch.setenv('ACCELERATE_USE_FSDP', 'true')
    assert as_launched(config).fsdp
    monkeypatch.setenv('FSDP_OFFLOAD_PARAMS', 'true')
    with pytest.raises(UserError, match='fsdp_offload_params true; allowed: false'):
        as_launched(config)
