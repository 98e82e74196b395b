"""Landlock: file access limited to given folders, without namespaces and without privileges (Linux 5.13 and later)."""

# pathlib takes as long to import as the whole guest
# ruff: noqa: PTH112
from __future__ import annotations

import ctypes
import os
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION, PATH_BENEATH = 1, 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
RIGHTS = (0, 13, 14, 15)
"""number of rights that version 1, 2 and 3 of the interface know: one bit each, from executing to truncating"""
ON_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
"""execute, write, read, truncate: the rights that a single file can have"""


def version() -> int:
    """Of the kernel's interface; 0 where there is none."""
    found = ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    return max(found, 0)


def restrict(readable: list[str], writable: list[str]) -> bool:
    """From now on this process reads only below ``readable`` and ``writable``, and changes only ``writable``.

    no_new_privs must be set. False where the kernel has no Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not version():
        return False
    everything = (1 << RIGHTS[min(version(), len(RIGHTS) - 1)]) - 1
    rules = struct.pack("Q", everything)
    ruleset = libc.syscall(CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    try:
        for paths, rights in ((readable, READ_FILE | READ_DIR), (writable, everything)):
            for path in paths:
                folder = os.open(path, os.O_PATH)
                allowed = rights if os.path.isdir(path) else rights & ON_FILES
                rule = struct.pack("=Qi", allowed, folder)
                added = libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
                os.close(folder)
                if added != 0:
                    return False
        return libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)
