"""Children of multiprocessing share the default keys of the script that started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, sys
import goscope

gs = goscope.Scope(backend="memory")

@gs.cached("5m")
async def user(user_id: int) -> str: ...

def tell(answers):
    answers.put((__name__, user.key(7)))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    answers = context.Queue()
    child = context.Process(target=tell, args=(answers,))
    child.start()
    print(*answers.get(timeout=100), user.key(7))
    child.join()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has only the method spawn")
@pytest.mark.parametrize(
    ("method", "module"),
    [("fork", "__main__"), ("spawn", "__mp_main__"), ("forkserver", "__mp_main__")],
)
def test_a_child_has_the_default_keys_of_its_parent(
    method: str, module: str, tmp_path: Path
) -> None:
    script = tmp_path / "shop.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    name, in_child, in_parent = done.stdout.split()
    assert (name, in_child) == (module, in_parent)
    assert in_parent.startswith("shop.user:")
