"""The messages that libvips writes to the log of GLib.

pyvips passes them to Python, where a garbage collection can free a picture whose decoder has a
message, too. GLib ends a process in which one message is written inside another.
"""

from __future__ import annotations

import cffi
import pyvips

_DECLARATIONS = """
int g_log_set_always_fatal(int levels);
int g_log_set_fatal_mask(const char *domain, int levels);
"""
_GLIB = "libglib-2.0.so.0"
_DOMAIN = b"VIPS"
_FATAL, _ERROR, _CRITICAL, _WARNING = 1 << 1, 1 << 2, 1 << 3, 1 << 4


def limit_messages() -> None:
    """Pass only warnings and errors to Python, and let no message but an error end this process.
    From 8.15 on, libvips has a message for every operation.
    """
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    try:
        glib = ffi.dlopen(_GLIB)
    except OSError:  # the library has another name: its messages stay as they are
        return
    glib.g_log_set_always_fatal(_ERROR)
    glib.g_log_set_fatal_mask(_DOMAIN, _ERROR)
    pyvips._remove_log_handler()
    pyvips._log_handler_id = pyvips.glib_lib.g_log_set_handler(
        _DOMAIN, _FATAL | _ERROR | _CRITICAL | _WARNING, pyvips._log_handler_cb, pyvips.ffi.NULL
    )
