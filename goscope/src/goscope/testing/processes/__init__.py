"""The part of the provider contract that only several processes can show.

A test class of `goscope.testing.conformance` switches it on with ``processes = True``. Its
``open_adapter`` is then also called in processes of their own, which are killed and suspended: the
class must be importable (no class within a function), must take its time from ``self.clock`` or
from the machine, and its store must be found by the folder alone.

`Program` is such a process, for tests of one's own.
"""

from ._orders import Grant
from ._program import Program, running

__all__ = ["Grant", "Program", "running"]
