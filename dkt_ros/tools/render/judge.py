"""
Ask a vision-language model whether the thing in a picture is usually transparent or reflective.

A judge is a function from the path of a PNG to the model's answer: `EndpointJudge` for any
OpenAI-compatible server, `LocalJudge` for weights in a folder.
"""
from __future__ import annotations

import base64
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dkt_ros.errors import RunError, UserError

Judge = Callable[[Path], str]
MAX_TOKENS = 120
QUESTION = (
    'The picture shows one thing, drawn in plain grey so that only its shape counts. What is it, '
    'and what are such things usually made of? Answer with JSON alone: {"thing": "its name", '
    '"transparent": true or false, "reflective": true or false}. transparent: such things are '
    'usually of clear or frosted glass or clear plastic. reflective: usually of shiny metal, '
    'mirror or glazed ceramic.')


@dataclass(frozen=True)
class Verdict:
    """
    What a model said of one thing.

    Attributes
    ----------
    thing : str
        What it takes it for.
    transparent, reflective : bool or None
        None where the answer cannot be read.
    answer : str
        Its words.

    """

    thing: str
    transparent: bool | None
    reflective: bool | None
    answer: str


def read_verdict(answer: str) -> Verdict:
    """Read the first JSON object in an answer; models like to wrap it in prose."""
    for match in re.finditer(r'\{[^{}]*\}', answer):
        try:
            found = json.loads(match[0])
        except ValueError:
            continue
        kinds = [found.get('transparent'), found.get('reflective')]
        if all(isinstance(kind, bool) for kind in kinds):
            return Verdict(str(found.get('thing', '')), *kinds, answer)
    return Verdict('', None, None, answer)


class EndpointJudge:
    """
    A model behind an OpenAI-compatible endpoint.

    Parameters
    ----------
    url : str
        The base, for example `http://localhost:8000/v1`. A key is taken from OPENAI_API_KEY.
    model : str
        Name of the model there.
    timeout_s : float
        How long one answer may take [s].

    """

    def __init__(self, url: str, model: str, timeout_s: float) -> None:
        if not re.match(r'https?://[^/]', url):
            raise UserError(f'--endpoint is {url!r}; an address such as http://localhost:8000/v1 '
                            'is expected')
        self._url = url.rstrip('/').removesuffix('/chat/completions') + '/chat/completions'
        self._model, self._timeout_s = model, timeout_s

    def __call__(self, picture: Path) -> str:
        """Return the answer to a picture."""
        image = base64.b64encode(picture.read_bytes()).decode()
        content = [{'type': 'image_url', 'image_url': {'url': f'data:image/png;base64,{image}'}},
                   {'type': 'text', 'text': QUESTION}]
        body = {'model': self._model, 'temperature': 0, 'max_tokens': MAX_TOKENS,
                'messages': [{'role': 'user', 'content': content}]}
        headers = {'Content-Type': 'application/json'}
        if os.environ.get('OPENAI_API_KEY'):
            headers['Authorization'] = f'Bearer {os.environ["OPENAI_API_KEY"]}'
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                return str(json.load(response)['choices'][0]['message']['content'])
        except urllib.error.HTTPError as error:
            reason = f'{error.code} {error.reason}'
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f'its answer is no chat completion ({type(error).__name__})'
        except OSError as error:
            reason = str(getattr(error, 'reason', error))
        raise RunError(f'the endpoint {self._url} does not answer: {reason}; check --endpoint '
                       f'and --model {self._model}, then run the same command again')


class LocalJudge:
    """A Qwen2.5-VL (or another image-text model that transformers knows) in a folder."""

    def __init__(self, folder: str | Path, device: str = 'auto') -> None:
        folder = Path(folder).expanduser()
        if not (folder / 'config.json').is_file():
            raise UserError(f'--model is {str(folder)!r}; a folder with the weights and '
                            'config.json of a Qwen2.5-VL is expected, or --endpoint')
        try:
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor
            self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except ImportError as error:
            reason = next(line for line in str(error).splitlines() if line)
            raise UserError(f'a local model needs transformers and torchvision ({reason}); '
                            'install them with pip, or use --endpoint') from None
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self._model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, dtype='auto').to(device).eval()

    def __call__(self, picture: Path) -> str:
        """Return the answer to a picture."""
        content = [{'type': 'image', 'path': str(picture)}, {'type': 'text', 'text': QUESTION}]
        inputs = self._processor.apply_chat_template(
            [{'role': 'user', 'content': content}], tokenize=True, return_dict=True,
            return_tensors='pt', add_generation_prompt=True).to(self._model.device)
        written = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        answer = written[:, inputs['input_ids'].shape[1]:]
        return self._processor.batch_decode(answer, skip_special_tokens=True)[0]
