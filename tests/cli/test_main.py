"""The dispatcher: version, help, unknown commands, and commands without their extra."""

from __future__ import annotations

import asyncio
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import goscope
from goscope.cli import commands, main
from goscope.cli._commands import COMMANDS, load
from goscope.cli.commands import demo

ROOT = Path(__file__).parents[2]
RUN = "import sys, goscope.cli; sys.exit(goscope.cli.main())"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def without(packages: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that cannot import these packages."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages!r})); {RUN}"
    return python("-c", block, *arguments)


def test_version_prints_the_name_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"goscope {goscope.__version__}\n"


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_python_m_goscope_is_the_same_command(option: str) -> None:
    module = python("-m", "goscope", option)
    assert module.returncode == 0, module.stderr
    assert module.stdout == python("-c", RUN, option).stdout


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] for line in printed), name


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert alone == capsys.readouterr().out


def test_an_unknown_command_exits_with_2_and_names_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["import"])
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "invalid choice: 'import'" in captured.err
    assert "demo" in captured.err


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupt)
    assert main(["demo"]) == 130


@pytest.mark.parametrize("package", ["aiohttp", "airportsdata", "rich"])
def test_a_missing_package_is_reported_with_the_pip_command(package: str) -> None:
    done = without([package], "demo")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f'goscope demo: requires {package}. Install with: pip install "goscope[demo]"\n'
    )


def test_all_missing_packages_are_reported_in_one_line() -> None:
    done = without(["aiohttp", "airportsdata", "rich"], "demo")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "requires aiohttp, airportsdata, rich." in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["demo", "--help"], []])
def test_version_and_help_work_without_the_extras(arguments: list[str]) -> None:
    done = without(["aiohttp", "airportsdata", "rich"], *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_importing_the_cli_imports_no_package_of_an_extra() -> None:
    code = (
        "import sys, goscope.cli; print({'aiohttp', 'airportsdata', 'rich'} & sys.modules.keys())"
    )
    assert python("-c", code).stdout == "set()\n"


def test_every_module_in_commands_is_a_command() -> None:
    assert {module.name for module in pkgutil.iter_modules(commands.__path__)} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_extra_of_a_command_installs_what_it_imports(name: str) -> None:
    command = load(name)
    pyproject: dict[str, Any] = tomllib.loads((ROOT / "goscope/pyproject.toml").read_text())
    extra = pyproject["project"]["optional-dependencies"][command.EXTRA]
    assert set(command.PACKAGES) <= {requirement.partition(">=")[0] for requirement in extra}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: goscope {name}")


def test_the_help_imports_no_command() -> None:
    code = (
        "import sys, goscope.cli\n"
        "try: goscope.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([it for it in sys.modules if it.startswith('goscope.cli.commands')])"
    )
    assert python("-c", code).stdout.endswith("[]\n")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_actions_and_options(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*COMMANDS, "release", "--token", "checkpoints", "--json"):
        assert word in script


def test_bash_completes_a_command() -> None:
    bash = shutil.which("bash")
    assert bash, "bash completes the command"
    script = python("-c", RUN, "completion", "bash").stdout
    ask = "COMP_WORDS=(goscope locks re); COMP_CWORD=2; _shtab_goscope; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        [bash, "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["release"]


def test_the_reader_of_a_pipe_may_close_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"

    async def fill() -> None:
        async with goscope.Scope(url) as gs:
            await gs.cache.set_many({f"key:{number}": number for number in range(9000)})

    asyncio.run(fill())
    done = subprocess.run(
        f"{sys.executable} -m goscope cache keys --url {url} | head -1",
        shell=True, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("KEY")
    assert done.stderr == ""
