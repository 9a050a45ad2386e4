"""The frame of the project: layout, locks, commands, and the rule that the product knows nothing of demo or tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gwanmun import cli

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("mdoc", "card", "policy", "protocol", "drivers", "gate_agent", "controller")
LOCKS = (
    "requirements.lock",
    "requirements-build.lock",
    "deploy/gate.lock",
    "deploy/controller.lock",
    "deploy/pcsc.lock",
)
TARGETS = {"demo", "test", "test-all", "lint", "bench", "fresh-check", "lock", "clean"}
FORBIDDEN = re.compile(r"\b(demo|scripted|pytest|testbed)\b", re.IGNORECASE)
ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {
        # The one question that tells an installed gate from a checkout, so that it refuses what is simulated (adr/0015).
        ("gate_agent/installation.py", "testbed"),
    }
)
"""(file, word) pairs with their reason in a comment; empty as long as nobody needs one."""


def _sources() -> Iterator[Path]:
    for package in PRODUCT:
        yield from sorted((ROOT / package).rglob("*.py"))


def _pins(lock: str) -> dict[str, frozenset[str]]:
    """`name==version` of each entry, without its marker, with its hashes."""
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / lock).read_text("utf-8"))[1:]
    return {
        re.split(r"[ ;\\]", entry, maxsplit=1)[0].strip(): frozenset(re.findall(r"--hash=(\S+)", entry))
        for entry in entries
    }


# -- import direction ---------------------------------------------------------------------------------------------------------


def test_imports_point_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_every_product_package_and_not_the_testbed() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]["packages"]
    assert set(packages) == {*PRODUCT, "gwanmun"}


# -- no demo branch and no test hook in the product -----------------------------------------------------------------------------


def _code_words(path: Path) -> set[str]:
    """Names, attributes, keywords, imports and strings of a module; prose in docstrings and comments is free."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    words: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                words.add(text)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                words.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                words.add(name)
            case ast.alias(name=name) | ast.ImportFrom(module=str(name)):
                words.add(name)
            case _:
                pass
    return words


def _hits(path: Path) -> set[str]:
    """Forbidden words of a module's code; an identifier is looked at part by part (`is_demo`, `PYTEST_CURRENT_TEST`)."""
    parts = re.sub(r"_", " ", " ".join(_code_words(path)))
    return {found.lower() for found in FORBIDDEN.findall(parts)}


def test_agent_controller_and_libraries_have_no_demo_branch_and_no_test_hook() -> None:
    found = {(str(path.relative_to(ROOT)), word) for path in _sources() for word in _hits(path)}
    assert found - ALLOWED == set()


@pytest.mark.parametrize(
    "code",
    [
        "import testbed.phone",
        "from testbed import air",
        "if os.environ.get('PYTEST_CURRENT_TEST'): pass",
        "def start(is_demo: bool) -> None: ...",
        "if config.scripted: pass",
        "run(demo=True)",
        "mode = 'demo'",
    ],
)
def test_the_check_notices_a_demo_branch(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f'"""A module."""\n{code}\n', "utf-8")
    assert _hits(tmp_path / "module.py")


def test_the_check_reads_code_and_not_prose(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('"""No demo here, says pytest."""\n# nor in the testbed\nx = 1\n', "utf-8")
    assert not _hits(tmp_path / "module.py")


# -- locks --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    pins = _pins(lock)
    assert len(pins) > 5
    assert all("==" in pin and hashes for pin, hashes in pins.items())
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|@ ", text)


def test_pcsc_beside_a_gate_changes_no_version() -> None:
    gate = dict(pin.split("==") for pin in _pins("requirements.lock"))
    pcsc = dict(pin.split("==") for pin in _pins("deploy/pcsc.lock"))
    assert {name: version for name, version in pcsc.items() if gate.get(name, version) != version} == {}


@pytest.mark.parametrize("lock", ["deploy/gate.lock", "deploy/controller.lock"])
def test_what_a_site_installs_is_what_was_tested_here(lock: str) -> None:
    everything = _pins("requirements.lock")
    assert {pin: hashes for pin, hashes in _pins(lock).items() if everything.get(pin) != hashes} == {}


def test_locks_satisfy_pyproject() -> None:
    """Every direct requirement is in the lock: a changed pyproject.toml without `make lock` fails here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locks = ("requirements.lock", "bench/peers.lock", "deploy/pcsc.lock")
    locked = {pin.partition("==")[0] for lock in locks for pin in _pins(lock)}
    wanted = [
        *project["dependencies"],
        *(entry for extra in project["optional-dependencies"].values() for entry in extra),
    ]
    names = {re.split(r"[<>=!~\[; ]", entry, maxsplit=1)[0].lower() for entry in wanted} - {"gwanmun"}
    assert names - locked == set()


# -- commands -----------------------------------------------------------------------------------------------------------------


def _make_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8")))


def test_the_pages_made_from_the_code_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_docs.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_make_has_every_target() -> None:
    assert TARGETS - _make_targets() == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_of_a_page_exists(page: str) -> None:
    commands = set(re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / page).read_text("utf-8")))
    assert commands
    assert commands - _make_targets() == set()


def test_the_readme_gives_both_commands_and_the_prerequisites() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for words in ("make demo", "make test", "`git`", "`make`", "python3-venv", "mosquitto", "libzbar0"):
        assert words in readme


def test_make_help_lists_every_target_korean_first() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    listed = {line.split()[0:2][1] for line in done.stdout.splitlines()}
    assert TARGETS - listed == set()
    assert all(re.match(r"  make [a-z-]+ +[^/]*[가-힣][^/]* / ", line) for line in done.stdout.splitlines()), (
        done.stdout
    )


def test_ci_runs_lint_the_quick_tests_and_every_test() -> None:
    steps = re.findall(r"(?m)^step \S+ (\d+) make (\S+)$", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert [target for _, target in steps] == ["lint", "test", "test-all"]
    assert sum(int(minutes) for minutes, _ in steps) <= 60


# -- the command line ---------------------------------------------------------------------------------------------------------


def test_the_help_lists_every_subcommand_korean_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for command in cli.COMMANDS:
        assert f"{command.name} {' '.join(command.summary.split())}" in text
        assert re.match(r"[가-힣].* / [a-z]", command.summary)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_subcommand_has_help(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command.name, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["turnstile"], ["agent"], ["controller", "--config"], ["agent", "--config", "x", "y"]]
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, *, extra: str = "gate") -> None:
    """Put one subcommand in place of all, whose module is `body`."""
    name = f"part_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(body, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "COMMANDS", (cli.Command("part", name, "main", extra, "부분 / part", False),))


def test_a_subcommand_gets_the_rest_of_the_line_and_gives_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, monkeypatch, "def main(argv): return 40 + len(argv)\n")
    assert cli.main(["part", "--version", "--", "x"]) == 43


def test_ctrl_c_ends_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, monkeypatch, "def main(argv): raise KeyboardInterrupt\n")
    assert cli.main(["part"]) == 130


def test_a_missing_library_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _installed(tmp_path, monkeypatch, "import no_such_library\n", extra="controller")
    assert cli.main(["part"]) == 2
    korean, english = capsys.readouterr().err.splitlines()
    assert "gwanmun[controller]" in korean
    assert re.search(r"[가-힣]", korean)
    assert "gwanmun[controller]" in english


def test_without_the_testbed_the_demo_says_where_to_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _installed(tmp_path, monkeypatch, "raise ModuleNotFoundError('No module named testbed', name='testbed')\n")
    assert cli.main(["part"]) == 2
    korean, english = capsys.readouterr().err.splitlines()
    assert "저장소" in korean
    assert "make demo" in english


def test_a_fault_of_our_own_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, monkeypatch, "import testbed.no_such_module\n")
    with pytest.raises(ModuleNotFoundError):
        cli.main(["part"])


def test_the_command_line_imports_nothing_of_the_parts_until_asked() -> None:
    program = f"import sys, gwanmun.cli; print(sorted({set(PRODUCT) | {'testbed'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
