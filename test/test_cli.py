"""The verbs of the command line, their help and their exit codes."""
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import dkt_ros
from dkt_ros import cli
from dkt_ros.errors import RunError, UserError

# The verbs of the design that this version delivers; some have verbs of their own.
VERBS = {'demo', 'infer', 'up', 'render', 'scenes', 'assets', 'data', 'train', 'eval', 'ablate',
         'prepare', 'export', 'bench', 'grasp-sim'}
GROUPS = {'scenes': {'check', 'pack', 'show', 'stats'}, 'assets': {'list', 'show', 'filter'},
          'bench': {'grasp', 'model', 'render', 'ros', 'stream'},
          'data': {'list', 'check', 'show'}}
LEAVES = [[verb] for verb in sorted(VERBS - set(GROUPS))] + [
    [group, verb] for group, verbs in GROUPS.items() for verb in sorted(verbs)]
OPTIONS = {
    'demo': ['--out', '--frames', '--json'],
    'infer': ['--model', '--out', '--mode', '--preset', '--repeat', '--json'],
    'up': ['--params', '--camera'],
    'render': ['--out', '--num-scenes', '--num-frames', '--size', '--seed', '--preset', '--shard',
               '--setup', '--sensor', '--ray', '--estimate', '--json'],
    'scenes pack': ['--out', '--json'],
    'bench render': ['--json'],
    'data check': ['--every', '--json'],
    'assets filter': ['--endpoint', '--model', '--out', '--json'],
    'train': ['--resume'],
    'ablate': ['--out', '--json'],
    'grasp-sim': ['--out', '--quick', '--full', '--sources', '--shard', '--json'],
    'bench stream': ['--presets', '--json'],
    'bench ros': ['--json'],
    'bench grasp': ['--gripper', '--points', '--plans', '--json'],
    'eval': ['--model', '--data', '--protocol', '--baselines', '--baseline-models', '--frames',
             '--json'],
}


@pytest.fixture
def dkt(monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments))


def names(group):
    return set(typer.main.get_command(group).commands)


def test_the_verbs_are_those_of_the_design(dkt):
    assert names(cli.app) == VERBS
    assert {'scenes': names(cli.scenes), 'assets': names(cli.assets),
            'bench': names(cli.bench), 'data': names(cli.data)} == GROUPS
    output = dkt('--help').output
    assert all(re.search(rf'^\W*{verb}\b', output, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize('verb', LEAVES, ids=' '.join)
def test_every_verb_has_help_with_an_example(dkt, verb):
    result = dkt(*verb, '--help')
    assert result.exit_code == 0
    assert f'dkt {" ".join(verb)}' in result.output.split('Example')[1]


@pytest.mark.parametrize(('verb', 'options'), OPTIONS.items(), ids=OPTIONS)
def test_verbs_have_the_options_of_the_design(dkt, verb, options):
    output = dkt(*verb.split(), '--help').output
    assert [option for option in options if option not in output] == []


def test_the_readme_lists_every_verb():
    readme = (Path(__file__).resolve().parents[1] / 'README.md').read_text()
    table = [line for line in readme.splitlines() if line.startswith('| `dkt ')]
    listed = {re.match(r'\| `dkt ([\w-]+)', line)[1] for line in table}
    assert listed == VERBS
    assert all(f'`{verb}`' in line or f' {verb}`' in line for group, verbs in GROUPS.items()
               for verb in verbs for line in table if line.startswith(f'| `dkt {group}'))


def test_version(dkt):
    result = dkt('--version')
    assert (result.exit_code, result.output) == (0, f'dkt_ros {dkt_ros.__version__}\n')


@pytest.mark.parametrize('arguments', [
    ['fly'], ['infer'], ['demo', '--frames', 'many'], ['up', '--camera', 'webcam'],
    ['render', '--out', 'x', '--size', '640'], ['render', '--out', 'x', '--shard', '3'],
    ['infer', 'no_such_clip.mp4'], ['infer', '.', '--model', 'no-such-model'],
    ['eval', '--data', 'no_such_folder'], ['scenes', 'check', 'no_such_folder'],
    ['assets', 'filter', '.'], ['assets', 'filter', '.', '--endpoint', 'localhost'],
    ['assets', 'show', '--out', 'sheet.txt'], ['train', 'no_such.yaml']], ids=' '.join)
def test_bad_arguments_leave_with_2_and_a_sentence(dkt, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = dkt(*arguments)
    assert result.exit_code == 2
    assert 'Traceback' not in result.output and result.output.strip()


def run_raising(error):
    app = typer.Typer()

    @cli.verb(app)
    def fail() -> None:
        raise error

    return CliRunner().invoke(app, [])


def test_a_mistake_of_the_user_is_one_sentence_and_2():
    result = run_raising(UserError('speed is 9; allowed: 0 to 5'))
    assert (result.exit_code, result.output) == (2, 'dkt: speed is 9; allowed: 0 to 5\n')


def test_what_did_not_work_out_is_told_without_a_traceback_and_1():
    result = run_raising(RunError('the camera left'))
    assert (result.exit_code, result.output) == (1, 'dkt: the camera left\n')
    assert isinstance(result.exception, SystemExit)


def test_an_interrupt_is_130():
    assert run_raising(KeyboardInterrupt()).exit_code == 130


def test_an_unexpected_error_keeps_its_traceback():
    result = run_raising(ValueError('a bug'))
    assert result.exit_code == 1 and isinstance(result.exception, ValueError)


def test_help_loads_no_network_library_and_no_arrays():
    code = ('import sys; import dkt_ros.cli; '
            'print(sorted({"torch", "diffusers", "numpy", "cv2", "rclpy"} & set(sys.modules)))')
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout.strip() == '[]'
