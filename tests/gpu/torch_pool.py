"""Torch computes in memory that libmesh_vram_torch.so gives it, and gives it back. Prints facts; exit code 77 without
torch or a GPU, 1 if something is not as it must be.

usage: torch_pool.py LIBRARY [--json FILE]
"""

import ctypes
import gc
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable

MIB = 1 << 20
facts: dict[str, object] = {}
failed: list[str] = []


def note(key: str, value: object) -> None:
    facts[key] = value
    print(f"  {key:<46} {value}", flush=True)


def must(key: str, is_so: bool) -> None:
    note(key, bool(is_so))
    if not is_so:
        failed.append(key)


class Hook:
    """The library, and torch's pool on it. Both are kept: torch does not."""

    def __init__(self, torch, path: str) -> None:
        self.torch = torch
        self.library = ctypes.CDLL(path)
        self.library.mesh_vram_torch_bytes.restype = ctypes.c_size_t
        self.library.mesh_vram_torch_set_budget.argtypes = [ctypes.c_int, ctypes.c_size_t]
        self.allocator = torch.cuda.memory.CUDAPluggableAllocator(
            path, "mesh_vram_torch_malloc", "mesh_vram_torch_free")

    def pool(self, **options):
        return self.torch.cuda.MemPool(self.allocator.allocator(), **options)

    def mib(self) -> float:
        return self.library.mesh_vram_torch_bytes(0) / MIB

    def set_budget(self, size: int) -> None:
        self.library.mesh_vram_torch_set_budget(0, size)


def card_used_mib(torch) -> float:
    free, total = torch.cuda.mem_get_info()
    return (total - free) / MIB


def computes(hook: Hook) -> None:
    torch = hook.torch
    a = torch.randn(4096, 4096, device="cuda")
    expected = a @ a
    torch.cuda.synchronize()
    before_mib = card_used_mib(torch)
    pool = hook.pool()
    with torch.cuda.use_mem_pool(pool):
        b = a.clone()
        result = b @ b
    torch.cuda.synchronize()
    must("right_result_in_the_pool", torch.allclose(result, expected, rtol=1e-4, atol=1e-2))
    note("same_bits_in_the_pool", torch.equal(result, expected))
    note("given_mib", hook.mib())
    note("card_used_more_mib", card_used_mib(torch) - before_mib)
    must("tensors_lie_in_the_pool", hook.mib() >= 128)
    del b, result
    gc.collect()
    note("given_after_tensors_are_gone_mib", hook.mib())
    torch.cuda.empty_cache()
    note("given_after_empty_cache_mib", hook.mib())
    with torch.cuda.use_mem_pool(pool):
        torch.cuda.empty_cache()
    note("given_after_empty_cache_in_pool_mib", hook.mib())
    del pool
    gc.collect()
    torch.cuda.empty_cache()
    must("all_given_back_without_pool", hook.mib() == 0)
    note("card_used_at_the_end_mib", card_used_mib(torch) - before_mib)


def refuses(hook: Hook) -> None:
    torch = hook.torch
    pool = hook.pool()
    hook.set_budget(512 * MIB)
    try:
        with torch.cuda.use_mem_pool(pool):
            torch.empty(1024 * MIB, dtype=torch.uint8, device="cuda")
        note("beyond_budget", "was given")
    except Exception as error:  # which one is the question
        note("beyond_budget", f"{type(error).__name__}: {str(error)[:160]}")
    must("a_refusal_is_out_of_memory", "OutOfMemory" in str(facts["beyond_budget"]))
    with torch.cuda.use_mem_pool(pool):
        small = torch.ones(64 * MIB, dtype=torch.uint8, device="cuda")
    must("goes_on_after_a_refusal", int(small.sum(dtype=torch.int64)) == 64 * MIB)
    hook.set_budget(2**63)
    del small, pool
    gc.collect()
    torch.cuda.empty_cache()


def streams(hook: Hook) -> None:
    """A kernel is under way when its memory is given up."""
    torch = hook.torch
    side = torch.cuda.Stream()
    pool = hook.pool()
    right = True
    for _ in range(5):
        with torch.cuda.use_mem_pool(pool), torch.cuda.stream(side):
            x = torch.full((256 * MIB,), 3, dtype=torch.uint8, device="cuda")
            for _ in range(20):
                x = x + 1
            total = x.sum(dtype=torch.int64)
            del x
        torch.cuda.empty_cache()
        side.synchronize()
        right = right and int(total) == 23 * 256 * MIB
        del total
    must("right_while_memory_is_given_up", right)
    del pool
    gc.collect()
    torch.cuda.empty_cache()
    note("given_after_streams_mib", hook.mib())


def lends_on_oom(hook: Hook) -> None:
    """Does use_on_oom ask us, or does it only lend what the pool has and does not use?"""
    torch = hook.torch
    pool = hook.pool(use_on_oom=True)
    with torch.cuda.use_mem_pool(pool):
        x = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
    del x
    note("oom_pool_has_cached_mib", hook.mib())
    total = torch.cuda.get_device_properties(0).total_memory
    for what, size in (("what_the_pool_has", 400 * MIB), ("more_than_it_has", 900 * MIB)):
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * MIB) / total)
        before_mib = hook.mib()
        try:
            y = torch.ones(size, dtype=torch.uint8, device="cuda")
            note(f"oom_{what}", f"given, {hook.mib() - before_mib:.0f} MiB more from us")
            del y
        except Exception as error:
            note(f"oom_{what}", f"{type(error).__name__}, {hook.mib() - before_mib:.0f} MiB more from us")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    del pool
    gc.collect()
    torch.cuda.empty_cache()
    note("given_after_oom_mib", hook.mib())


def median_ms(act: Callable[[], None], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        before = time.perf_counter()
        act()
        times.append((time.perf_counter() - before) * 1000)
    return round(statistics.median(times), 3)


def takes(hook: Hook) -> None:
    """A GiB, had and given back, by the hook alone and by torch's own allocator."""
    torch = hook.torch
    give, take = hook.library.mesh_vram_torch_malloc, hook.library.mesh_vram_torch_free
    give.restype, give.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    take.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]

    def by_hook() -> None:
        take(give(1024 * MIB, 0, None), 1024 * MIB, 0, None)

    def by_torch() -> None:
        x = torch.empty(1024 * MIB, dtype=torch.uint8, device="cuda")
        del x
        torch.cuda.empty_cache()

    note("gib_by_hook_ms", median_ms(by_hook))
    note("gib_by_torch_ms", median_ms(by_torch))


def main() -> int:
    try:
        import torch
    except ImportError:
        print("no torch here")
        return 77
    if not torch.cuda.is_available():
        print("no GPU here")
        return 77
    note("torch", torch.__version__)
    torch.cuda.init()
    hook = Hook(torch, sys.argv[1])
    for experiment in (computes, refuses, streams, lends_on_oom, takes):
        print(experiment.__name__, flush=True)
        try:
            experiment(hook)
        except Exception:
            failed.append(experiment.__name__)
            note(experiment.__name__ + "_failed", traceback.format_exc(limit=3).replace("\n", " | "))
    if "--json" in sys.argv:
        with open(sys.argv[sys.argv.index("--json") + 1], "w") as file:
            json.dump({"facts": facts, "failed": failed}, file, indent=1)
    print("not as it must be: " + ", ".join(failed) if failed else "all as it must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
