"""libmesh_vram.so as ctypes sees it: the structs and functions of mesh_vram.h, and nothing else."""

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path


class Error(Structure):
    _fields_ = [("code", c_int32), ("rule", c_char * 32), ("text", c_char * 256), ("hint", c_char * 256),
                ("largest_bytes", c_uint64)]


class Request(Structure):
    _fields_ = [("struct_bytes", c_uint32), ("kind", c_int32), ("priority", c_int32), ("revocability", c_int32),
                ("min_bytes", c_uint64), ("want_bytes", c_uint64), ("peak_bytes", c_uint64), ("wait_ms", c_uint32),
                ("hold_hint_ms", c_uint32), ("ttl_ms", c_uint32), ("load_ms", c_uint32), ("model", c_char_p),
                ("layout", c_char_p), ("gpu", c_char_p), ("gpu_count", c_uint32), ("ticket", c_char_p), ("pid", c_uint32)]


class Gpu(Structure):
    _fields_ = [("uuid", c_char * 96), ("total_bytes", c_uint64), ("largest_bytes", c_uint64)]


class Chunk(Structure):
    _fields_ = [("descriptor", c_int32), ("gpu", c_uint32), ("bytes", c_uint64)]


class Yield(Structure):
    _fields_ = [("lease", c_char * 33), ("how", c_int32), ("bytes", c_uint64), ("within_ms", c_uint32)]


# Name without mesh_vram_ → what it returns, what it takes. Handles are addresses.
FUNCTIONS = {
    "connect": (c_void_p, [c_char_p, c_char_p, c_uint32, POINTER(Error)]),
    "shut": (None, [c_void_p]),
    "close": (None, [c_void_p]),
    "gpus": (c_size_t, [c_void_p, POINTER(Gpu), c_size_t]),
    "epoch": (c_uint64, [c_void_p]),
    "acquire": (c_void_p, [c_void_p, POINTER(Request), POINTER(Error)]),
    "release": (None, [c_void_p]),
    "commit": (c_int32, [c_void_p, c_uint64, POINTER(Error)]),
    "renew": (c_int32, [c_void_p, POINTER(Error)]),
    "use": (None, [c_void_p, c_int]),
    "begin": (c_int32, [c_void_p, POINTER(Error)]),
    "live": (c_int32, [c_void_p, c_uint64, POINTER(Error)]),
    "seal": (c_int32, [c_void_p, POINTER(Error)]),
    "give_back": (c_int32, [c_void_p, c_uint64, POINTER(Error)]),
    "next_yield": (c_int, [c_void_p, c_uint32, POINTER(Yield)]),
    "bytes": (c_uint64, [c_void_p]),
    "is_writer": (c_int, [c_void_p]),
    "is_lost": (c_int, [c_void_p]),
    "id": (c_char_p, [c_void_p]),
    "gpu_count": (c_size_t, [c_void_p]),
    "gpu_uuid": (c_char_p, [c_void_p, c_size_t]),
    "map": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p), POINTER(c_uint64), POINTER(Error)]),
    "unmap": (None, [c_void_p, c_uint64]),
    "chunks": (c_size_t, [c_void_p, POINTER(Chunk), c_size_t]),
}

NAME = "libmesh_vram.so"


def load() -> ctypes.CDLL:
    """MESH_VRAM_LIBRARY of the environment, else beside this file, else where the loader looks."""
    beside = Path(__file__).with_name(NAME)
    path = os.environ.get("MESH_VRAM_LIBRARY") or (str(beside) if beside.exists() else NAME)
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"{NAME} is not to be had ({error}); build it with ninja -C .build "
                          f"tools/sdk/vram/{NAME} and name it in MESH_VRAM_LIBRARY") from error
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, "mesh_vram_" + name)
        function.restype, function.argtypes = result, arguments
    return library


LIBRARY = load()


def call(name: str, *arguments):
    return getattr(LIBRARY, "mesh_vram_" + name)(*arguments)


__all__ = ["Chunk", "Error", "Gpu", "Request", "Yield", "byref", "call"]
