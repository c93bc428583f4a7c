"""The part of the provider contract that only several processes can verify.

A test class of `goscope.testing.conformance` enables it with ``processes = True``. Child processes
then call its ``open_adapter`` too, and are killed and suspended. So the class must be importable
(not defined inside a function), must take the time from ``self.clock`` or from the machine, and
must derive the store from the folder alone.

`Program` is such a process, for your own tests.
"""

from ._messages import Grant
from ._program import Program, running

__all__ = ["Grant", "Program", "running"]
