"""Makes pytest show the compared values when an assertion of the kit fails.

pytest rewrites the assertions of test files on its own. Other modules must be registered before
they are imported.
"""

import pkgutil
from pathlib import Path

import pytest

_modules = pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}.")
_this = __name__

pytest.register_assert_rewrite(*(it.name for it in _modules if it.name != _this))
