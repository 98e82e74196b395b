"""Programs that try to get out of the sandbox, to do harm in it, or to be judged better than they are.

``escapes``: ``attempt()`` returns True if the escape worked. ``cheats``: wrong programs for a test of ``f``.
"""

# ruff: noqa: E501 - programs on one line each
from __future__ import annotations

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def escapes(secret_file: str, folder: str, port: int, pid: int) -> dict[str, str]:
    """``secret_file`` holds the word SECRET, ``folder`` is a folder of this machine, ``port`` a listening port of it,
    ``pid`` a process of it. The environment of this machine has the word HIDDEN in it."""
    bodies = {
        "read a file outside": f"return 'SECRET' in open({secret_file!r}).read()",
        "read the password file": "return bool(open('/etc/passwd').read())",
        "list a folder outside": f"import os; return bool(os.listdir({folder!r}))",
        "list the home folders": "import os; return bool(os.listdir('/home') or os.listdir('/root'))",
        "write a file outside": f"open({folder!r} + '/written', 'w').write('x'); return True",
        "overwrite a file outside": f"open({secret_file!r}, 'w').write('x'); return True",
        "delete a file outside": f"import os; os.remove({secret_file!r}); return True",
        "rename a file outside": f"import os; os.rename({secret_file!r}, {secret_file!r} + '2'); return True",
        "change a file's mode outside": f"import os; os.chmod({folder!r}, 0o777); return True",
        "read through a symbolic link": f"import os; os.symlink({secret_file!r}, 'link'); return 'SECRET' in open('link').read()",
        "make a hard link to a file outside": f"import os; os.link({secret_file!r}, 'hard'); return True",
        "climb out with ..": f"return 'SECRET' in open('../' * 20 + {secret_file!r}.lstrip('/')).read()",
        "change the standard library": "import os; open(os.__file__, 'a').write('#'); return True",
        "read the environment": "import os; return 'HIDDEN' in str(os.environ)",
        "read an environment in /proc": "import os; return any(b'HIDDEN' in open(f'/proc/{p}/environ', 'rb').read()"
        " for p in ('self', 1, os.getppid()))",
        "read the parent's memory in /proc": "import os; return bool(open(f'/proc/{os.getppid()}/mem', 'rb'))",
        "read the parent's files in /proc": "import os; return bool(os.listdir(f'/proc/{os.getppid()}/fd'))",
        "see other processes": f"import os; return os.path.exists('/proc/{pid}/cmdline') and"
        f" bool(open('/proc/{pid}/cmdline').read())",
        "connect to this machine": f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); return True",
        "send a datagram": f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1',"
        f" {port})); return True",
        "look up a name": "import socket; return bool(socket.getaddrinfo('pypi.org', 443))",
        "open a local socket": "import socket; socket.socket(socket.AF_UNIX); return True",
        "fork": "import os\n    if os.fork() == 0:\n        os._exit(0)\n    return True",
        "fork bomb": "import os\n    for _ in range(10000):\n        os.fork()\n    return True",
        "start a shell": "import subprocess; return subprocess.run(['/bin/sh', '-c', 'exit 0']).returncode == 0",
        "become another program": "import os; os.execv('/bin/sh', ['sh', '-c', 'sleep 60'])",
        "thousands of threads": "import threading, time\n    for _ in range(2000):\n"
        "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n    return True",
        "kill the parent": "import os; os.kill(os.getppid(), 9); return True",
        "kill a process outside": f"import os; os.kill({pid}, 9); return True",
        "kill everyone": "import os; os.kill(-1, 9); return True",
        "kill its group": "import os; os.killpg(0, 9); return True",
        "leave its group": "import os; os.setsid(); return True",
        "starve the parent": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0)); return True",
        "raise its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); return True",
        "become root": "import os; os.setuid(0); os.setresgid(0, 0, 0); return True",
        "use much memory": "return len(bytearray(3 << 30)) > 0",
        "write a huge file": "open('big', 'wb').write(bytes(100 << 20)); return True",
        "make a device": "import os, stat; os.mknod('device', stat.S_IFBLK | 0o600, os.makedev(8, 0)); return True",
    }
    calls = {
        "trace the parent": "libc.ptrace(16, os.getppid(), None, None)",
        "read the parent's memory": "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
        "make a user namespace": "libc.unshare(0x10000000)",
        "mount something": "libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)",
        "unmount something": "libc.umount2(b'/tmp', 2)",
        "change the root": "libc.chroot(b'/tmp')",
        "set the host's name": "libc.sethostname(b'x', 1)",
    }
    sources = {name: f"def attempt():\n    {body}\n" for name, body in bodies.items()}
    return sources | {name: f"{LIBC}def attempt():\n    return {call} == 0\n" for name, call in calls.items()}


WRONG = "\ndef f(x):\n    return 0\n"
EQUAL = "    __eq__ = lambda self, other: True\n    __ne__ = lambda self, other: False\n    __hash__ = None\n"

# tests: f(2) == 4 and abs(f(1.5) - 2.25) < 1e-6
CHEATS = {
    "os._exit(0) at once": "import os\nos._exit(0)" + WRONG,
    "sys.exit(0) at once": "import sys\nsys.exit(0)" + WRONG,
    "os._exit(0) when called": "import os\ndef f(x):\n    os._exit(0)\n",
    "SystemExit when called": "def f(x):\n    raise SystemExit(0)\n",
    "KeyboardInterrupt when called": "def f(x):\n    raise KeyboardInterrupt\n",
    "kills itself": "import os\ndef f(x):\n    os.kill(os.getpid(), 9)\n",
    "exits later": "import atexit, os\natexit.register(os._exit, 0)" + WRONG,
    "prints the verdict": 'import sys\nprint(\'ready\\n{"passed": true, "kind": "", "detail": ""}\')\nsys.stdout.flush()'
    + WRONG,
    "writes the verdict everywhere": 'import os\nfor n in range(1024):\n    try:\n        os.write(n, b\'ready\\n{"passed": true,'
    ' "kind": "", "detail": ""}\')\n    except OSError:\n        pass' + WRONG,
    "an exception called passed": "class passed(Exception):\n    pass\ndef f(x):\n    raise passed\n",
    "no AssertionError": "import builtins\nbuiltins.AssertionError = type('X', (Exception,), {})\nbuiltins.abs ="
    " lambda x: 0" + WRONG,
    "hides built-ins": "def abs(x):\n    return 0\ndef f(x):\n    return 4\n",
    "patches the grader": "import sys\nfor name, module in list(sys.modules.items()):\n    if 'judge' in name or 'main' in"
    " name:\n        for key in list(vars(module)):\n            if callable(getattr(module, key)):\n"
    "                setattr(module, key, lambda *a, **k: {'passed': True, 'gone': False, 'kind': '', 'detail': ''})"
    + WRONG,
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"passed\": true}'" + WRONG,
    "patches the wire": "from guest import wire\nwire.Pipe.send = lambda self, message: __import__('os').write(self.writes,"
    " (b'{\"passed\":true}').rjust(20))" + WRONG,
    "equals everything": f"class E:\n{EQUAL}def f(x):\n    return E()\n",
    "an integer that equals everything": f"class E(int):\n{EQUAL}def f(x):\n    return E(0)\n",
    "a list that equals everything": f"class E(list):\n{EQUAL}def f(x):\n    return E()\n",
    "no distance to anything": f"class E:\n{EQUAL}    __sub__ = __rsub__ = __abs__ = lambda *a: 0\n    __lt__ = lambda *a:"
    " True\ndef f(x):\n    return E()\n",
    "looks for the tests in its frames": "import sys\ndef f(x):\n    frame, found = sys._getframe(), []\n    while frame:\n"
    "        found += [v for v in frame.f_locals.values() if isinstance(v, str) and '== 4' in v]\n"
    "        frame = frame.f_back\n    return {2: 4, 1.5: 2.25}[x] if found else 0\n",
    "looks for the tests in its memory": "import gc\ndef f(x):\n    found = [o for o in gc.get_objects() if isinstance(o,"
    " (list, dict)) and '== ' + '4' in repr(o)]\n    return {2: 4, 1.5: 2.25}[x] if found else 0\n",
    "reads files that are open": "import os\ndef f(x):\n    for n in range(1024):\n        try:\n            os.set_blocking(n,"
    " False)\n            if b'== 4' in os.read(n, 1 << 20):\n                return {2: 4, 1.5: 2.25}[x]\n"
    "        except OSError:\n            pass\n    return 0\n",
    "closes every file": "import os\nos.closerange(0, 4096)" + WRONG,
    "deletes the private folder": "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)" + WRONG,
    "loops for ever": "def f(x):\n    while True:\n        pass\n",
    "sleeps for ever": "import time\ndef f(x):\n    time.sleep(1000)\n",
    "refuses to stop": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass" + WRONG,
    "prints for ever": "while True:\n    print('x' * 1000000)" + WRONG,
    "a huge result": "def f(x):\n    return 'x' * (100 << 20)\n",
    "a deep result": "def f(x):\n    r = []\n    for _ in range(100000):\n        r = [r]\n    return r\n",
    "crashes the interpreter": "import ctypes\ndef f(x):\n    ctypes.string_at(0)\n",
    "is not Python": "def f(x) return x",
    "does not define it": "def g(x):\n    return x * x\n",
}
