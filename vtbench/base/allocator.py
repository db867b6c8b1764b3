"""How the C library keeps the memory that tensors leave."""

from __future__ import annotations

import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's `mallopt` (malloc.h)."""

_KEPT_BYTES = 2**31 - 1
_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next tensor instead of giving it back to the system.

    A convolutional network frees and asks for the same large blocks in every layer. By default each
    comes as new pages, which the system fills with zeros. No number depends on it.

    Returns:
        Whether it was done: True on glibc, False elsewhere.
    """
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError):  # another system, another library
        return False
    if not library.startswith("glibc"):
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _KEPT_BYTES, _M_TOP_PAD: _PAD_BYTES}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
