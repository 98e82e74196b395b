"""Generated code runs apart: right programs pass, wrong ones don't, and nothing gets out."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from escape_attempts import CHEATS, escapes

from kasa_corda.errors import ConfigError
from kasa_corda.evaluation.sandbox import SANDBOXES, Limits, Program, SandboxError, choose, run_all
from kasa_corda.evaluation.sandbox import choice as choice_module
from kasa_corda.evaluation.sandbox.container import Docker
from kasa_corda.evaluation.sandbox.guest import landlock, seccomp
from kasa_corda.evaluation.sandbox.guest.wire import pack, unpack

NAMES = ("bubblewrap", "unshare", "rlimit")
TESTS = ["assert f(2) == 4", "assert abs(f(1.5) - 2.25) < 1e-6"]
QUICK = Limits(cpu_seconds=1, wall_factor=2)
RIGHT = "def f(x):\n    return x * x\n"


def program(source: str, *tests: str, names: tuple[str, ...] = ("f",), before: str = "") -> Program:
    return Program(source, list(names), list(tests or TESTS), before)


@pytest.fixture(scope="module", params=NAMES)
def sandbox(request):
    reason = choice_module.problem(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    return SANDBOXES[request.param]


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A secret file, a listening port and a process of this machine."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("SECRET")
    os.environ["KASA_CORDA_TEST_TOKEN"] = "HIDDEN"
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield folder, server, sleeper
    sleeper.kill()
    sleeper.wait()
    del os.environ["KASA_CORDA_TEST_TOKEN"]


def test_no_escape_succeeds(sandbox, outside):
    if sandbox.name == "rlimit" and not (seccomp.supported() and landlock.version()):
        pytest.skip(
            "rlimit: this kernel has no Landlock, or its system calls are not known; nothing else holds files back"
        )
    folder, server, sleeper = outside
    mode = folder.stat().st_mode
    attempts = escapes(str(folder / "secret"), str(folder), server.getsockname()[1], sleeper.pid)
    programs = [program(s, "assert attempt() is True", names=("attempt",)) for s in attempts.values()]
    outcomes = run_all(sandbox, programs, QUICK)
    assert len(attempts) >= 30
    assert [name for name, outcome in zip(attempts, outcomes, strict=True) if outcome.passed] == []
    assert (folder / "secret").read_text() == "SECRET" and [path.name for path in folder.iterdir()] == ["secret"]
    assert folder.stat().st_mode == mode and sleeper.poll() is None
    with pytest.raises(BlockingIOError):
        server.accept()


def test_the_same_attempts_succeed_outside_a_sandbox(outside):
    """The attempts themselves are right: without a sandbox most of those that do no harm work."""
    folder, server, sleeper = outside
    attempts = escapes(str(folder / "secret"), str(folder), server.getsockname()[1], sleeper.pid)
    harmless = [
        "read a file outside", "read the password file", "list a folder outside", "read the environment", "fork",
        "read an environment in /proc", "see other processes", "send a datagram", "open a local socket",
        "start a shell",
    ]  # fmt: skip
    source = "".join(f"{attempts[name]}\nif not attempt():\n    raise SystemExit({name!r})\n" for name in harmless)
    tried = subprocess.run([sys.executable, "-c", source], check=False, cwd=folder, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr


@pytest.mark.parametrize("name", ["bubblewrap", "unshare"])
def test_namespaces_alone_keep_files_network_and_other_processes_apart(name, outside, monkeypatch):
    """Without the system call filter, as on machines whose system calls are not known."""
    reason = choice_module.problem(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    monkeypatch.setattr(seccomp, "supported", lambda: False)
    folder, server, sleeper = outside
    attempts = escapes(str(folder / "secret"), str(folder), server.getsockname()[1], sleeper.pid)
    alone = [
        n for n in attempts if any(w in n for w in ("file", "folder", "/proc", "network", "connect", "process", "root"))
    ]
    alone += ["kill everyone", "kill the parent", "read the environment", "mount something"]
    outcomes = run_all(
        SANDBOXES[name], [program(attempts[n], "assert attempt() is True", names=("attempt",)) for n in alone], QUICK
    )
    # in a namespace of its own a program may signal what else is there, which is the judge, and that ends in no verdict
    assert {n for n, outcome in zip(alone, outcomes, strict=True) if outcome.passed} <= {
        "kill the parent",
        "kill everyone",
    }
    assert (folder / "secret").read_text() == "SECRET" and sleeper.poll() is None
    with pytest.raises(BlockingIOError):
        server.accept()


def test_no_wrong_program_passes(sandbox):
    outcomes = run_all(sandbox, [program(source) for source in CHEATS.values()], QUICK)
    assert [name for name, outcome in zip(CHEATS, outcomes, strict=True) if outcome.passed] == []
    kinds = dict(zip(CHEATS, (outcome.kind for outcome in outcomes), strict=True))
    assert kinds["loops for ever"] == kinds["sleeps for ever"] == "timeout"
    assert kinds["os._exit(0) at once"] == kinds["os._exit(0) when called"] == "exit"
    assert kinds["is not Python"] == "SyntaxError" and kinds["does not define it"] == "NameError"
    assert kinds["equals everything"] == "AssertionError" and kinds["a huge result"] == "Unreadable"
    assert kinds["kills itself"] == "killed" and kinds["crashes the interpreter"] == "SIGSEGV"


def test_right_programs_pass_whatever_they_take_and_give(sandbox):
    source = """
import collections, dataclasses, decimal, fractions, functools, math, typing
@dataclasses.dataclass
class Pair:
    a: int
    b: int
def same(x): return x
def generated(n): yield from range(n)
def counted(s): return collections.Counter(s)
def sorts(x): x.sort()
def keys(d): return d.keys()
def fails(x): raise ValueError('no ' + x)
def total(pairs): return sum(p.a * p.b for p in pairs)
def adder(n): return lambda m: n + m
limit = 7
"""
    tests = [
        "for x in (None, True, 0, 10**30, 1.5, float('inf'), 'ä\\ud800', b'x', (1, [2]), {1, 2}, {'a': (1,)}, 1j):"
        "\n    assert same(x) == x and type(same(x)) is type(x)",
        "assert list(generated(3)) == [0, 1, 2] and counted('aab') == {'a': 2, 'b': 1} and keys({'a': 1}) == {'a'}",
        "x = [3, 1, 2]\nassert sorts(x) is None and x == [1, 2, 3]",
        "try:\n    fails('x')\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no x'",
        "p = Pair(2, 3)\np.a = 5\nassert total([p, Pair(1, 1)]) == 16 and p.b == 3 and p == Pair(5, 3) and p != 1",
        "assert same(int) is int and adder(1)(2) == 3 and limit == 7 and helper(2) == 3",
    ]
    names = ("same", "generated", "counted", "sorts", "keys", "fails", "Pair", "total", "adder", "limit")
    outcome = sandbox.run(program(source, *tests, names=names, before="def helper(x):\n    return x + 1"), Limits())
    assert outcome.passed and outcome.kind == "", outcome


def test_verdicts_do_not_depend_on_chance(sandbox):
    source = "def f():\n    return list({'a', 'b', 'c', 'd', 'e'})\n"
    shown = {sandbox.run(program(source, "raise Exception(f())"), QUICK).detail for _ in range(3)}
    assert len(shown) == 1


def test_numpy_is_there_and_other_packages_are_not(sandbox):
    source = "import numpy as np\ndef f(x):\n    return np.float64(x) ** 2\n"
    assert sandbox.run(program(source), Limits()).passed
    assert sandbox.run(program("import torch\n" + RIGHT), QUICK).kind == "ModuleNotFoundError"


def leftovers() -> tuple[int, int, int, int]:
    """(processes of this one and its descendants' groups, threads, open files, temporary folders)."""
    children = sum(
        f"\nPPid:\t{os.getpid()}\n" in status.read_text()
        for status in Path("/proc").glob("[0-9]*/status")
        if status.exists()
    )
    folders = len(
        [p for p in Path(tempfile.gettempdir()).iterdir() if p.name.startswith(f"kasa-corda-program-{os.getpid()}-")]
    )
    return children, threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), folders


def judges() -> int:
    """Running sandbox processes of this machine that this process started."""
    found = 0
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += b"guest.main" in command.read_bytes() and str(os.getpid()).encode() in command.read_bytes()
        except OSError:
            continue
    return found


def many(count: int) -> list[Program]:
    """Different programs: right, wrong, ending early, leaving files and threads behind."""
    kinds = [
        RIGHT,
        "def f(x):\n    return x + 1\n",
        "import os\nos._exit(0)\n",
        "open('left', 'w').write('x' * 1000)\n" + RIGHT,
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\n" + RIGHT,
    ]
    return [program(f"# {i}\n{kinds[i % len(kinds)]}") for i in range(count)]


def without_a_leak(sandbox, count: int) -> None:
    run_all(sandbox, many(5), QUICK)
    before = leftovers()
    told: list[int] = []
    outcomes = run_all(sandbox, many(count), Limits(), finished=told.append)
    assert [outcome.passed for outcome in outcomes] == [True, False, False, True, True] * (count // 5)
    assert sum(told) == count and leftovers() == before and judges() == 0


def test_a_hundred_programs_leave_nothing_behind(sandbox):
    without_a_leak(sandbox, 100)


@pytest.mark.heavy
def test_five_thousand_programs_leave_nothing_behind(sandbox):
    without_a_leak(sandbox, 5000)


def test_equal_programs_run_once_and_every_one_gets_its_outcome():
    class Counting:
        runs = 0

        def run(self, program, limits):
            Counting.runs += 1
            return program.source

    programs = [program(source) for source in ("a", "b", "a", "a")]
    told: list[int] = []
    assert run_all(Counting(), programs, workers=1, finished=told.append) == ["a", "b", "a", "a"]
    assert Counting.runs == 2 and sum(told) == 4


def test_the_weak_sandbox_must_be_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(choice_module, "problem", lambda name: None if name == "rlimit" else f"no {name} here")
    with pytest.raises(ConfigError, match=r"bubblewrap: no bubblewrap here; unshare: no unshare here.*sandbox=rlimit"):
        choose("auto")
    assert choose("rlimit").name == "rlimit"
    with pytest.raises(ConfigError, match="did you mean unshare"):
        choose("unshar")


def test_a_sandbox_that_cannot_start_gives_no_verdict(monkeypatch):
    rlimit = SANDBOXES["rlimit"]
    broken = ["sh", "-c", "echo 'mounting is forbidden' >&2; exit 3"]
    monkeypatch.setattr(type(rlimit), "start", lambda self, limits: choice_module.Unshare.start(self, limits))
    monkeypatch.setattr("kasa_corda.evaluation.sandbox.unshare.python_command", lambda *_: broken)
    with pytest.raises(SandboxError, match="rlimit can't start: mounting is forbidden"):
        rlimit.run(program(RIGHT), QUICK)


def test_a_container_has_no_network_no_rights_and_no_files(monkeypatch, tmp_path):
    """Against a stand-in for docker that runs the command here: there is no container service in the tests."""
    guest = Path(choice_module.__file__).parent
    stand_in = tmp_path / "docker"
    stand_in.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" = run ] || exit 0\n'
        'while [ "$1" != python ]; do shift; done\nshift\n'
        f'exec {sys.executable} "$1" "$2" "$3" "$(echo "$4" | sed s#/judge#{guest}#)" "$5"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Docker().missing() is None
    assert Docker().run(program(RIGHT), Limits()).passed
    assert Docker().run(program("def f(x):\n    return 0\n"), Limits()).kind == "AssertionError"
    inspected, started, removed = (tmp_path / "calls").read_text().splitlines()[:3]
    for flag in ("--network none", "--read-only", "--cap-drop ALL", "--user 65534:65534", "--pids-limit", "--memory"):
        assert flag in started
    assert inspected.startswith("image inspect") and "KASA_CORDA" not in started
    assert removed == f"rm --force {re.search('--name ([^ ]+)', started)[1]}"


def test_objects_stay_where_they_are_and_cross_as_numbers():
    kept: list[object] = []
    packed = pack([len, 1, object], lambda value: kept.append(value) or len(kept) - 1)
    assert packed == ["list", ["object", 0], 1, ["type", "object"]] and kept == [len]
    assert unpack(packed, kept.__getitem__) == [len, 1, object]
