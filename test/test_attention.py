"""Attention without a maximum: equal to torch's for bounded logits; the choice of a kernel."""
import pytest
import torch
import torch.nn.functional as F
from toy_model import randn, toy_pipeline

from dkt_ros.errors import UserError
from dkt_ros.model import attention
from dkt_ros.model.attention import (
    MAX_LOGIT,
    bounded_attention,
    check_gelu_linear,
    choose_attention,
    gelu_linear,
    largest_logit,
)
from dkt_ros.model.execution import prepare


def normalised(seed, *shape):
    x = randn(seed, *shape)
    return x / x.square().mean((1, 3), keepdim=True).sqrt()


def test_it_is_softmax_attention():
    query, key = normalised(1, 2, 4, 50, 16), normalised(2, 2, 4, 70, 16) + 0.5
    value = randn(3, 2, 4, 70, 16)
    expected = F.scaled_dot_product_attention(query, key, value)
    exact = bounded_attention(query, key, value)
    torch.testing.assert_close(exact, expected, atol=1e-5, rtol=1e-5)
    half = [tensor.to(torch.bfloat16) for tensor in (query, key, value)]
    error = bounded_attention(*half).float() - expected
    assert error.norm() < 0.02 * expected.norm()


def test_the_largest_allowed_logits_do_not_overflow():
    # logit of the first key MAX_LOGIT, of all others the opposite: without the mean, twice that
    query, key = torch.zeros(1, 1, 1, 16), torch.zeros(1, 1, 4000, 16)
    query[..., 0] = MAX_LOGIT
    key[..., 0] = -4.0
    key[:, :, 0] *= -1.0
    value = randn(8, 1, 1, 4000, 16)
    half = [tensor.to(torch.bfloat16) for tensor in (query, key, value)]
    found = bounded_attention(*half).float()
    torch.testing.assert_close(found, half[2][:, :, :1].float(), atol=1e-2, rtol=1e-2)


def test_no_query_and_key_exceed_the_bound():
    weights = randn(4, 64).abs(), randn(5, 64)
    bound = largest_logit(*weights, heads=4)
    # the worst case: all of a vector in the one channel with the largest weights
    unit = torch.zeros(64)
    unit[int((weights[0].abs() * weights[1].abs()).argmax())] = 8.0
    assert ((unit * weights[0]) @ (unit * weights[1])).abs() / 4 <= bound
    query, key = (randn(seed, 200, 64) for seed in (6, 7))
    query, key = (x / x.square().mean(-1, keepdim=True).sqrt() * weight
                  for x, weight in ((query, weights[0]), (key, weights[1])))
    logits = torch.einsum('nhd,mhd->hnm', query.view(-1, 4, 16), key.view(-1, 4, 16)) / 4
    assert logits.abs().max() <= bound


@pytest.fixture
def usable():
    """Return the kernels that this machine has."""
    example = randn(1, 1, 2, 20, 16)
    return [name for name in attention.BACKENDS
            if attention._runs(attention.attention_by(name), example)]


def test_each_kernel_gives_the_same(usable):
    assert 'math' in usable
    query, key, value = (randn(seed, 1, 2, 20, 16) for seed in (1, 2, 3))
    expected = F.scaled_dot_product_attention(query, key, value)
    for name in usable:
        found = choose_attention(name, None, query)(query, key, value)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_fastest_of_all_is_taken(usable, monkeypatch):
    current, example, asked = F.scaled_dot_product_attention, randn(1, 1, 2, 20, 16), []
    times = {name: 2.0 for name in usable} | {'math': 1.0, 'current': 3.0}

    def seconds(attend, given):
        asked.append('current' if attend is current else usable[len(asked) - 1])
        assert given is example
        return times[asked[-1]]

    monkeypatch.setattr(attention, '_seconds', seconds)
    taken = choose_attention('measure', current, example)
    assert asked == ['current', *usable]
    assert taken is not current
    times['current'] = 0.5
    asked.clear()
    assert choose_attention('measure', current, example) is current


def test_a_kernel_that_is_not_here_is_refused(usable):
    lacking = [name for name in attention.BACKENDS if name not in usable]
    if not lacking:
        pytest.skip('all kernels run here')
    with pytest.raises(UserError, match=f'attention is {lacking[0]}, which cannot run here .*; '
                                        'here: auto, measure, .*math'):
        choose_attention(lacking[0], None, randn(1, 1, 2, 20, 16))


@pytest.mark.parametrize('name', ['auto', 'measure', 'math'])
def test_a_pipeline_attends_by_what_was_chosen(name):
    rgb, latents = randn(1, 1, 4, 3, 2, 3), randn(2, 1, 4, 3, 2, 3)

    def velocity(pipeline):
        return pipeline.folded().velocity(rgb, ('depth',), 1)(latents, torch.tensor(884.0))

    chosen = prepare(toy_pipeline(), attention=name)
    assert len({block.attend for block in chosen.transformer.blocks}) == 1
    torch.testing.assert_close(velocity(chosen), velocity(prepare(toy_pipeline())))


def test_graphs_have_attention_of_their_own():
    with pytest.raises(UserError, match='attention is math and execution onnxruntime'):
        prepare(toy_pipeline(), 'onnxruntime', attention='math')
    with pytest.raises(UserError, match="attention is 'sage'; allowed: 'auto', 'measure'"):
        prepare(toy_pipeline(), attention='sage')


@torch.no_grad()
def test_gelu_in_the_pass_of_its_layer():
    layer, x = torch.nn.Linear(32, 48), randn(9, 2, 10, 32)
    expected = F.gelu(layer(x), approximate='tanh')
    found = gelu_linear(x.to(torch.bfloat16), layer.to(torch.bfloat16))
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize(('execution', 'taken'), [('eager', True), ('compile', False)])
def test_what_compiles_fuses_by_itself(execution, taken, monkeypatch):
    """Inductor takes that operation for weights of constants only."""
    monkeypatch.setattr('dkt_ros.model.execution.check_gelu_linear', lambda: True)
    network = prepare(toy_pipeline(), execution, torch.bfloat16).transformer
    assert {block.activate is gelu_linear for block in network.blocks} == {taken}


def test_a_torch_without_that_operation_goes_without(monkeypatch):
    def missing(*arguments):
        raise RuntimeError('mkldnn::_linear_pointwise() is missing value for argument')

    monkeypatch.setattr('dkt_ros.model.attention.gelu_linear', missing)
    assert not check_gelu_linear()
    monkeypatch.setattr('dkt_ros.model.attention.gelu_linear', lambda x, layer: layer(x))
    assert not check_gelu_linear()
