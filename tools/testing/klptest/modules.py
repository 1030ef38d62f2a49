# SPDX-License-Identifier: GPL-2.0
"""Loading and unloading kernel modules by the system calls themselves.

Unlike insmod and rmmod, they take a module that is in memory, give what an init function returned
although it is no error, and take no time of their own.
"""

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def init_module(image: bytes, parameters: str = "") -> int:
    """Load a module; the result is that of its init function, OSError if that is an error."""
    return _checked(LIBC.init_module(image, ctypes.c_ulong(len(image)), parameters.encode()))


def delete_module(name: str) -> int:
    """Unload a module, without waiting until nobody uses it; OSError if somebody does."""
    return _checked(LIBC.delete_module(name.encode(), os.O_NONBLOCK))
