"""The conformance kit itself: the mistakes of an author fail loudly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from goscope.memory import MemoryAdapter
from goscope.testing import conformance
from goscope.testing.conformance import (
    AdapterConformance,
    BackendConformance,
    BackendLockConformance,
    CacheConformance,
    Conformance,
    FenceConformance,
    LockConformance,
    PrivateBackendConformance,
    PrivateBackendLockConformance,
    ProcessConformance,
)
from goscope.testing.conformance.adapter import OPTIONS

EXPECTED_FAILURES = {
    "TestAbilityMissing::test_adapter_has_each_inherited_provider_complete[checkpoint]": (
        "CheckpointConformance is inherited, adapter.checkpoint is None"
    ),
    "TestAbilityNotClaimed::test_adapter_has_each_inherited_provider_complete[cache]": (
        "adapter.cache exists: inherit CacheConformance too"
    ),
    "TestAbilityNotClaimed::test_adapter_has_each_inherited_optional_ability[SupportsWait]": (
        "has what WaitConformance tests: inherit it too"
    ),
    "TestOptionMissing::test_adapter_has_each_inherited_optional_ability[SupportsInspection]": (
        "InspectionConformance is inherited, MemoryAdapter(key_prefix='') lacks what it tests"
    ),
    "TestAbilityIncomplete::test_adapter_has_each_inherited_provider_complete[cache]": (
        "adapter.cache lacks the coroutines ['touch']"
    ),
    "TestNoLease::test_adapter_has_a_lease_and_another_provider": "adapter.lease is None",
    "TestNotPersistent::test_adapter_is_persistent_as_declared": (
        "PERSISTENT is declared: True, found: False"
    ),
    "TestNotPersistent::test_adapter_has_the_declared_capabilities": "found: []",
    "TestUndeclaredCapability::test_adapter_has_the_declared_capabilities": (
        "found: ['DISTRIBUTED']"
    ),
    "TestUndeclaredCapability::test_adapter_with_distributed_locks_has_shared_locks": (
        "SHARED_LOCKS"
    ),
    "TestNotShared::test_shared_adapters_see_the_writes_of_one_another": "assert None ==",
    "TestNotShared::test_shared_leases_exclude_across_adapters": "granted twice",
    "TestProcessesForgotten::test_shared_capabilities_are_tested_with_processes": (
        "['PERSISTENT']: declare `processes = True` too"
    ),
    "TestNotPrivate::test_private_another_adapter_has_another_store": (
        "inherit SharedStoreConformance"
    ),
    "TestWrongMessage::test_cache_a_stored_none_is_a_hit": "has() treats a stored None as a miss",
}


def run_pytest(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run pytest in a separate project, as an author would."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"COLUMNS": "500"},  # so that no line of the summary is truncated
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tests of `nonconforming` that failed, and the first line of each message."""
    source = Path(__file__).with_name("nonconforming.py")
    select = " or ".join({test.partition("::")[2].partition("[")[0] for test in EXPECTED_FAILURES})
    folder = tmp_path_factory.mktemp("host")
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (folder / "test_wrong.py").write_text(source.read_text())
    lines = run_pytest(folder, "-rf", "-k", select).stdout.split("\n")
    failed = [line.removeprefix("FAILED test_wrong.py::") for line in lines if "FAILED" in line]
    return dict(line.split(" - ", 1) for line in failed)


@pytest.mark.parametrize(("test", "message"), EXPECTED_FAILURES.items())
def test_a_mismatch_is_a_failure_that_says_what_is_wrong(
    failures: dict[str, str], test: str, message: str
) -> None:
    """Neither a skip nor a pass."""
    assert test in failures, f"only these failed: {sorted(failures)}"
    assert message in failures[test]


def test_a_forgotten_open_adapter_is_refused_at_class_creation() -> None:
    with pytest.raises(TypeError, match="TestMine does not override open_adapter"):
        type("TestMine", (BackendConformance,), {"capabilities": frozenset()})


def test_forgotten_capabilities_are_refused_at_class_creation() -> None:
    @asynccontextmanager
    async def open_adapter(
        self: object, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        async with MemoryAdapter() as adapter:
            yield adapter

    with pytest.raises(TypeError, match="TestMine does not declare its capabilities"):
        type("TestMine", (BackendConformance,), {"open_adapter": open_adapter})


def test_a_private_store_cannot_be_shared_by_processes() -> None:
    with pytest.raises(TypeError, match="TestMine declares `processes = True`"):
        type("TestMine", (PrivateBackendConformance,), {"processes": True}, abstract=True)


@pytest.mark.parametrize("processes", [True, False])
def test_the_process_tests_are_switched_on_by_one_attribute(processes: bool) -> None:
    case = type("Mine", (BackendConformance,), {"processes": processes}, abstract=True)
    tests = [name for name in dir(case) if name.startswith("test_process_")]
    assert len(tests) >= 15
    assert all((getattr(case, name) is not None) is processes for name in tests)


def test_a_conformance_test_cannot_be_overridden() -> None:
    async def test_cache_a_stored_none_is_a_hit(self: object, tmp_path: Path) -> None:
        """Make it pass."""

    name = test_cache_a_stored_none_is_a_hit.__name__
    with pytest.raises(TypeError, match=rf"TestMine\.{name} overrides .* CacheValueConformance"):
        type("TestMine", (CacheConformance,), {name: test_cache_a_stored_none_is_a_hit})


def test_a_forgotten_override_fails_a_run_in_which_other_tests_pass(tmp_path: Path) -> None:
    """pytest would skip an abstract class silently."""
    (tmp_path / "test_fine.py").write_text("def test_fine(): pass\n")
    (tmp_path / "test_forgotten.py").write_text(
        "from goscope.testing.conformance import BackendConformance\n"
        "class TestMine(BackendConformance):\n    capabilities = frozenset()\n"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    done = run_pytest(tmp_path)
    assert done.returncode != 0
    assert "does not override open_adapter" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_kit_runs_whatever_the_host_project_configures(tmp_path: Path, mode: str) -> None:
    """The loop scopes and modes of the host do not affect it."""
    source = Path(__file__).parent.parent / "conformance" / "test_memory.py"
    (tmp_path / "test_mine.py").write_text(source.read_text())
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.pytest.ini_options]\nasyncio_mode = "{mode}"\nfilterwarnings = ["error"]\n'
        'asyncio_default_test_loop_scope = "session"\n'
        'asyncio_default_fixture_loop_scope = "session"\n'
    )
    done = run_pytest(tmp_path, "-k", "delete")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_fences_are_tested_for_the_inherited_providers() -> None:
    """A backend without checkpoints need not fence their writes."""
    asked: list[str] = []

    class Metafunc:
        fixturenames = ("tmp_path", "write")

        def parametrize(self, name: str, values: object, ids: list[str]) -> None:
            asked.extend(ids)

    class Partial(
        AdapterConformance, LockConformance, CacheConformance, FenceConformance, abstract=True
    ):
        """A cache and leases."""

    Partial().pytest_generate_tests(Metafunc())  # type: ignore[arg-type]  # it has what is used
    assert asked == ["cache.set", "cache.add", "cache.delete"]


def test_the_backend_contracts_combine_every_part() -> None:
    """A part that is not combined would test no backend."""
    parts = [getattr(conformance, name) for name in conformance.__all__]
    for part in parts:
        whole = issubclass(BackendConformance, part) or issubclass(PrivateBackendConformance, part)
        locks = part in (BackendLockConformance, PrivateBackendLockConformance)
        assert whole or locks or part in {option.contract for option in OPTIONS}


def test_every_conformance_test_has_a_docstring() -> None:
    for whole in (BackendConformance, PrivateBackendConformance):
        for name in dir(whole):
            if name.startswith("test_"):
                test = getattr(whole, name) or getattr(ProcessConformance, name)
                assert test.__doc__, f"{name} has no docstring"


@pytest.mark.long
def test_the_report_lists_what_was_verified_and_what_was_not(tmp_path: Path) -> None:
    """For each test class: the parts that ran with their failures, and the capabilities."""
    source = Path(__file__).with_name("nonconforming.py")
    (tmp_path / "test_wrong.py").write_text(source.read_text())
    (tmp_path / "conftest.py").write_text(
        "from goscope.testing.conformance.report import pytest_terminal_summary\n"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    done = run_pytest(tmp_path, "-k", "TestNotPersistent and adapter_is_persistent")
    lines = done.stdout.split("\n")
    assert "TestNotPersistent: adapter 0 (1 FAILED)" in lines
    assert "    PERSISTENT: NOT VERIFIED, failed in adapter" in lines


def test_the_base_class_opens_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Conformance().open_adapter(Path())
