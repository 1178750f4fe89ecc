"""The start-up test passes here and notices a wrong convolution."""
import pytest
import torch
import torch.nn.functional as F

from dkt_ros.errors import UserError
from dkt_ros.model import selftest


def test_this_build_is_right():
    selftest.check_convolutions(torch.device('cpu'))


def test_a_wrong_build_is_refused(monkeypatch):
    right = F.conv3d

    def wrong(x, weight, **options):
        result = right(x, weight, **options)
        return result if x.dtype == torch.float32 else result.roll(1, dims=-1)

    monkeypatch.setattr(selftest.F, 'conv3d', wrong)
    with pytest.raises(UserError, match='bfloat16 3-D convolutions are wrong by.*float32'):
        selftest.check_convolutions(torch.device('cpu'))
