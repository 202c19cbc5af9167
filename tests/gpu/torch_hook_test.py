"""What libmesh_vram_torch.so gives torch, on the stand-in for a driver, whose addresses are the processor's.

usage: torch_hook_test.py LIBRARY STAND_IN_FOLDER
"""

import ctypes
import os
import sys
import tempfile

MIB = 1 << 20


def load(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    library.mesh_vram_torch_malloc.restype = ctypes.c_void_p
    library.mesh_vram_torch_malloc.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    library.mesh_vram_torch_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    library.mesh_vram_torch_free.restype = None
    library.mesh_vram_torch_set_budget.argtypes = [ctypes.c_int, ctypes.c_size_t]
    library.mesh_vram_torch_bytes.argtypes = [ctypes.c_int]
    library.mesh_vram_torch_bytes.restype = ctypes.c_size_t
    return library


def check(library: ctypes.CDLL) -> None:
    def give(size: int, device: int = 0) -> int | None:
        return library.mesh_vram_torch_malloc(size, device, None)

    def used() -> int:
        return library.mesh_vram_torch_bytes(0) // MIB

    # 300 MiB are of several chunks: each byte is there, across their seams.
    large = give(300 * MIB)
    assert large and used() == 300
    for offset in (0, 256 * MIB - 4, 288 * MIB - 4, 300 * MIB - 8):
        ctypes.memmove(large + offset, b"weights", 8)
        assert ctypes.string_at(large + offset, 8) == b"weights\0"
    small = give(1)
    assert small and used() == 302
    assert give(0) is None and give(2**64 - 1) is None and give(MIB, device=7) is None

    library.mesh_vram_torch_set_budget(0, 304 * MIB)
    assert give(4 * MIB) is None, "more than the budget"
    assert give(2 * MIB), "what is left of it"
    library.mesh_vram_torch_free(large, 300 * MIB, 0, None)
    assert used() == 4
    library.mesh_vram_torch_free(large, 300 * MIB, 0, None)
    assert used() == 4, "freed twice"
    # The card has 16 GiB; nothing may be left of what was begun.
    library.mesh_vram_torch_set_budget(0, 2**63)
    assert give(20 << 30) is None and used() == 4
    again = give(15 << 30)
    assert again, "what failed has left something"
    library.mesh_vram_torch_free(again, 15 << 30, 0, None)


def main() -> int:
    path, stand_in = sys.argv[1:3]
    if "MESH_STAND_IN_BOOK" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"LD_LIBRARY_PATH": stand_in, "MESH_STAND_IN_BOOK": folder + "/book"}
            return os.spawnve(os.P_WAIT, sys.executable, [sys.executable, *sys.argv], env)
    check(load(path))
    print("all held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
