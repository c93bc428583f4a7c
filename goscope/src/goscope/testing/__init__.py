"""For tests of programs that use goscope, and for authors of backends.

`goscope.testing.conformance` has the provider contract as classes to subclass. It needs the extra
``goscope[testing]``; nothing here does.
"""

from ._clock import FakeClock
from ._override import override
from ._record import record_events

__all__ = ["FakeClock", "override", "record_events"]
