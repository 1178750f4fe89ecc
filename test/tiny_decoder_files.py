"""Weight files of a small decoder in the published layout."""
from safetensors.torch import save_file
from toy_model import randn


def published(z=4, widths=(8, 6, 4, 4), strides=(1, 2, 2), patch=1, encoder=True):
    """Return random tensors under the names of TAEHV."""
    shapes = {'1.weight': (widths[0], z, 3, 3), '1.bias': (widths[0],)}
    for level, stride in enumerate(strides):
        width, base = widths[level], 3 + 6 * level
        for block in range(base, base + 3):
            for place, inputs in ((0, 2 * width), (2, width), (4, width)):
                shapes[f'{block}.conv.{place}.weight'] = (width, inputs, 3, 3)
                shapes[f'{block}.conv.{place}.bias'] = (width,)
        shapes[f'{base + 4}.conv.weight'] = (width * stride, width, 1, 1)
        shapes[f'{base + 5}.weight'] = (widths[level + 1], width, 3, 3)
    shapes['22.weight'], shapes['22.bias'] = (3 * patch ** 2, widths[3], 3, 3), (3 * patch ** 2,)
    state = {f'decoder.{name}': randn(i, *shape) / (shape[0] if len(shape) == 1 else
                                                    randn(i, *shape)[0].numel()) ** 0.5
             for i, (name, shape) in enumerate(shapes.items())}
    return state | ({'encoder.0.weight': randn(99, 64, 3, 3, 3)} if encoder else {})


def written(folder, state, name='taew.safetensors'):
    save_file(state, str(folder / name))
    return folder / name
