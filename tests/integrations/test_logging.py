"""Events as log records."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest

from goscope import Scope, events
from goscope.events import CircuitOpened, Event, LockLost
from goscope.integrations.logging import LEVELS, log_events

EVENTS = [cls for _, cls in inspect.getmembers(events, inspect.isclass) if issubclass(cls, Event)]
SECRET = "secret-7"


def example(cls: type[Event]) -> Event:
    """An event of the class in which every text that a user may have sent is the secret."""
    fields: dict[str, Any] = {
        **dict.fromkeys(("key", "error", "reason", "owner"), SECRET),
        **dict.fromkeys(("fencing_token", "failure_count", "sequence", "progress"), 1),
        "scope": "shop",
        "template": "user:{id}",
        "error_type": "ValueError",
        "action": "locks release",
    }
    return cls(**{name: fields[name] for name in cls.__struct_fields__ if name in fields})


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "goscope.events")
    return caplog


@pytest.mark.parametrize("cls", EVENTS)
def test_no_record_has_keys_or_texts_of_errors(
    cls: type[Event], records: pytest.LogCaptureFixture
) -> None:
    log_events()(example(cls))
    (record,) = records.records
    assert SECRET not in record.getMessage()
    assert SECRET not in str(vars(record))
    assert vars(record)["goscope_event"] == cls.__name__
    assert vars(record)["goscope_template"] == "user:{id}"


def test_keys_and_texts_are_logged_when_asked_for(records: pytest.LogCaptureFixture) -> None:
    lost = LockLost(key="stock:42", scope="shop", reason="it expired")
    log_events(keys=True)(lost)
    log_events(texts=True)(lost)
    assert [record.getMessage() for record in records.records] == [
        "LockLost 'stock:42' in shop: 0.0 ms",
        "LockLost in shop: 0.0 ms (it expired)",
    ]
    assert vars(records.records[0])["goscope_key"] == "stock:42"


def test_every_level_is_of_an_event() -> None:
    assert set(LEVELS) <= set(EVENTS)


def test_what_an_operator_must_see_is_a_warning() -> None:
    warnings = {cls.__name__ for cls, level in LEVELS.items() if level == logging.WARNING}
    assert {"LockLost", "CircuitOpened", "CacheStoreFailed", "TaskFailed"} <= warnings


def test_levels_can_be_overridden(records: pytest.LogCaptureFixture) -> None:
    observe = log_events(levels={LockLost: logging.ERROR})
    observe(LockLost(key="k", reason="r"))
    observe(CircuitOpened(key="k", failure_count=1))
    assert [record.levelname for record in records.records] == ["ERROR", "WARNING"]


def test_a_logger_may_be_given(caplog: pytest.LogCaptureFixture) -> None:
    log_events(logging.getLogger("shop"))(LockLost(key="k", reason="r"))
    assert [record.name for record in caplog.records] == ["shop"]


@pytest.mark.asyncio
async def test_a_scope_logs(records: pytest.LogCaptureFixture) -> None:
    async with Scope(backend="memory", name="shop", observers=[log_events()]) as gs:
        breaker = gs.circuit_breaker("payments", failure_threshold=1)
        with pytest.raises(OSError, match="gone"):
            await breaker.call(fail)
        await gs.cache.get("absent")
    assert [(record.levelname, vars(record)["goscope_event"]) for record in records.records] == [
        ("DEBUG", "CircuitCallStarted"),
        ("WARNING", "CircuitOpened"),
        ("INFO", "CircuitCallFailed"),
        ("DEBUG", "CacheMiss"),
    ]


async def fail() -> None:
    raise OSError("gone")
