"""Start a program that hears nothing of this machine's network: `python tests/browser/deaf.py PROGRAM ARGUMENT...`

A container that starts gives the host an interface, and a second later that interface an address. Chromium hears of it over a
netlink socket, takes it for another network, and fails every request that waits for a connection with
ERR_NETWORK_CHANGED: a page lacks a script now and then. A browser on another machine, like a student's, never sees that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2  # <linux/prctl.h>, <linux/seccomp.h>
SOCKET = {"x86_64": 41, "aarch64": 198}  # the number of the system call
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # <linux/bpf_common.h>: words at an offset, constants
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
ALLOW, FAIL = 0x7FFF0000, 0x00050000


def refuse_netlink() -> None:
    """Let socket(AF_NETLINK, ...) fail in this process and in all that it starts, for good.

    Raises:
        OSError: the kernel takes no filter.
    """
    program = [
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_EQUAL, 0, 3, SOCKET[platform.machine()]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_IF_EQUAL, 0, 1, int(socket.AF_NETLINK)),
        (RETURN, 0, 0, FAIL | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_ = struct.pack("H6xP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, None, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    if platform.machine() in SOCKET:
        refuse_netlink()
    os.execvp(sys.argv[1], sys.argv[1:])
