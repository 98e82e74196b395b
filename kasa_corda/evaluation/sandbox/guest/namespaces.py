"""Own mount, process, network, IPC, host-name and user namespaces, with a file system that holds only what is needed.

Works as root (then the program runs as nobody) and as an ordinary user where the kernel lets one make user namespaces.
Python has no calls for this before 3.12, and none for mounts: libc is called directly.
"""

# pathlib takes as long to import as the whole guest
# ruff: noqa: PTH102, PTH103, PTH112, PTH120, PTH123, PTH211
from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # the module typing alone takes as long to import as all of this
if TYPE_CHECKING:
    from typing import Any

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
EVERYTHING_BUT_USER = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
NOBODY = 65534
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
DEVICES = ("null", "zero", "urandom", "random")

libc = ctypes.CDLL(None, use_errno=True)


def supported() -> bool:
    """Whether this machine's number of pivot_root, for which libc has no function, is known here."""
    return os.uname().machine in PIVOT_ROOT


def enter(view: dict[str, Any]) -> None:
    """Leave the machine behind; processes forked from now on are in a process namespace of their own.

    ``view``: see ``view.View``. OSError names the step that the kernel refused.
    """
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    user, group = os.getuid(), os.getgid()
    try:
        if user == 0 and _try(libc.unshare, EVERYTHING_BUT_USER):
            build(view)
            _become_nobody(own)
        else:
            _step("make a user namespace", libc.unshare, NEWUSER | EVERYTHING_BUT_USER)
            _map(own, (0, user), (0, group))
            build(view)
    finally:
        os.close(own)


def drop_capabilities() -> None:
    """No capability, and no way to one: for the process that will run programs."""
    for number in range(64):
        libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _step("drop capabilities", libc.capset, header, (ctypes.c_uint32 * 6)())
    _step("set no_new_privs", libc.prctl, PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)


def set_dumpable(value: bool) -> None:
    """Whether processes of the same user may read this one's memory and files through /proc and ptrace."""
    libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(value), 0, 0, 0)


def build(view: dict[str, Any]) -> None:
    """The new root: a small tmpfs with read-only binds, four devices, /tmp and /dev/shm. No /proc, no /sys."""
    _mount(None, "/", None, REC | PRIVATE)
    base = "/tmp"
    _mount("tmpfs", base, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    os.mkdir(f"{base}/old")
    os.mkdir(f"{base}/new", 0o755)
    _mount("tmpfs", f"{base}/new", "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    _pivot(base, f"{base}/old")
    os.chdir("/")
    for path, source in view["binds"].items():
        _bind(f"/old{source}", f"/new{path}")
    for name in DEVICES:
        _bind(f"/old/dev/{name}", f"/new/dev/{name}", device=True)
    for path, target in view["links"].items():
        os.makedirs(os.path.dirname(f"/new{path}"), exist_ok=True)
        os.symlink(target, f"/new{path}")
    for path in ("/tmp", "/dev/shm"):
        os.makedirs(f"/new{path}", exist_ok=True)
        options = f"size={view['scratch_bytes']},nr_inodes={view['scratch_files']},mode=1777"
        _mount("tmpfs", f"/new{path}", "tmpfs", NOSUID | NODEV, options)
    _step("unmount the old root", libc.umount2, b"/old", DETACH)
    os.chdir("/new")
    _pivot(".", ".")
    _step("unmount the old root", libc.umount2, b".", DETACH)
    _mount(None, "/", None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)
    os.chdir("/tmp")


def _bind(source: str, target: str, device: bool = False) -> None:
    """A read-only bind of a file or folder; what is mounted below it comes along, read-only too."""
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        with open(target, "xb"):
            pass
    _mount(source, target, None, BIND | REC)
    inner = [target, *(path for path in _mounted() if path.startswith(f"{target}/"))]
    for path in inner:
        # flags that a mount has already may not be taken from it in a user namespace
        kept = os.statvfs(path).f_flag & (NOSUID | NODEV | NOEXEC)
        _mount(None, path, None, REMOUNT | BIND | RDONLY | NOSUID | kept | (0 if device else NODEV))


def _mounted() -> list[str]:
    """Mount points by the names they have here; /proc of the old root says."""
    with open("/old/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return [line.split()[4].replace("\\040", " ") for line in table]


def _become_nobody(own: int) -> None:
    """From root to nobody, in a user namespace of its own where the kernel allows one more."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    set_dumpable(True)  # else /proc/self still belongs to root
    if _try(libc.unshare, NEWUSER):
        _map(own, (NOBODY, NOBODY), (NOBODY, NOBODY))


def _map(own: int, users: tuple[int, int], groups: tuple[int, int]) -> None:
    """Tell a new user namespace which (inner, outer) user and group it has."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{users[0]} {users[1]} 1"),
        ("gid_map", f"{groups[0]} {groups[1]} 1"),
    ):
        file = os.open(name, os.O_WRONLY, dir_fd=own)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _step(f"mount {target}", libc.mount, *encoded, ctypes.c_ulong(flags), options.encode() or None)


def _pivot(new: str, old: str) -> None:
    _step("change the root", libc.syscall, PIVOT_ROOT[os.uname().machine], os.fsencode(new), os.fsencode(old))


def _try(call: Any, *arguments: Any) -> bool:
    return call(*arguments) == 0


def _step(what: str, call: Any, *arguments: Any) -> None:
    if call(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"can't {what}: {os.strerror(number)}")
