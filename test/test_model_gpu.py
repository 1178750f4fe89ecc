"""On a GPU: the folded network, its compiled form and bfloat16 convolutions."""
import pytest
import torch
from toy_model import randn, toy_pipeline

from dkt_ros.model.execution import prepare
from dkt_ros.model.selftest import check_convolutions

pytestmark = [pytest.mark.gpu,
              pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA here')]


def velocity_of(pipeline):
    device = pipeline.folded().device
    rgb, latents = randn(1, 1, 4, 3, 4, 6).to(device), randn(2, 1, 4, 3, 4, 6).to(device)
    return pipeline.folded().velocity(rgb, ('depth',))(latents, torch.tensor(884.0)).cpu()


def test_convolutions():
    check_convolutions(torch.device('cuda'))


@pytest.mark.parametrize('execution', ['eager', 'compile'])
def test_a_step_is_that_of_the_cpu(execution):
    torch.backends.cuda.matmul.allow_tf32 = False
    expected = velocity_of(toy_pipeline())
    found = velocity_of(prepare(toy_pipeline().to('cuda'), execution))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
