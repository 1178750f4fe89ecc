"""The source files of the package and what they import, read without importing them."""
import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / 'dkt_ros'


def files():
    return sorted(path for path in PACKAGE.rglob('*.py') if '__pycache__' not in path.parts)


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path):
    """Return every module that a file imports, late imports and importlib calls included."""
    found = set()
    module = name_of(path)
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')
            base = '.'.join(parts[:len(parts) - node.level + 1]) if node.level else ''
            base = '.'.join(filter(None, [base, node.module]))
            found |= {base} | {f'{base}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'import_module':
            found |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found
