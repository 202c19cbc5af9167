// PyTorch takes its memory through these, when they are named to torch.cuda.memory.CUDAPluggableAllocator and the
// allocator to a torch.cuda.MemPool. Memory comes in physical chunks that are mapped side by side, so that large
// requests need no large hole. All may be called by any thread.
#pragma once

#include <cstddef>

#pragma GCC visibility push(default)
extern "C" {

// Null if the card or the budget has no memory left, or there is no card; torch makes an out-of-memory error of it.
// `stream` does not matter: nothing is in flight on new memory.
void* mesh_vram_torch_malloc(size_t bytes, int device, void* stream);
// Waits until the device is done with everything, for a mapping must not go while a kernel uses it.
void mesh_vram_torch_free(void* memory, size_t bytes, int device, void* stream);

// How much malloc may give in all on that device; no limit before the first call.
void mesh_vram_torch_set_budget(int device, size_t bytes);
// How much it has given, in whole chunks.
size_t mesh_vram_torch_bytes(int device);
}
#pragma GCC visibility pop
