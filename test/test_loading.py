"""What makes a loaded pipeline faster changes nothing that it computes."""
import torch

from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder
from dkt_ros.model.loading import lay_out_for_speed, load_pipeline
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.resources import resolve_model


def run(pipeline):
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = CausalVAEEncoder(pipeline.vae), CausalVAEDecoder(pipeline.vae)
    results = []
    for count in (1, 4):
        frames = torch.rand(1, 3, count, 64, 96, generator=generator) * 2 - 1
        latent = encoder.encode(frames)
        results += [latent, decoder.decode(latent)]
    return results


def test_channels_last_gives_the_same_numbers():
    pipeline = DKTPipeline.from_pretrained(resolve_model('dkt-tiny'))
    expected = run(pipeline)
    for result, wanted in zip(run(lay_out_for_speed(pipeline)), expected):
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-4)


def test_a_loaded_pipeline_is_laid_out():
    weights = [p for p in load_pipeline('dkt-tiny', 'cpu').vae.parameters() if p.ndim == 5]
    assert any(p.is_contiguous(memory_format=torch.channels_last_3d) and not p.is_contiguous()
               for p in weights)
