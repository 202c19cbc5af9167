// What an order ended with, as an error that says what to do.
#pragma once

#include <string>

#include "tools/sdk/vram/connection.h"
#include "tools/sdk/vram/mesh_vram.h"

namespace mesh::sdk {

// Fills `error` if there is one, and returns the code.
mesh_vram_code tell(mesh_vram_error* error, mesh_vram_code code, const std::string& rule, const std::string& text,
                    const std::string& hint, uint64_t largest_bytes = 0);

mesh_vram_code unreachable(mesh_vram_error* error, const std::string& path, int number);
mesh_vram_code invalid(mesh_vram_error* error, const std::string& text);
mesh_vram_code lost(mesh_vram_error* error);
// Of an order that was not done: no reply, Refused or Failed.
mesh_vram_code not_done(mesh_vram_error* error, const Outcome& outcome);

// "1.5 GiB"; never a size that is larger.
std::string size_text(uint64_t bytes);

}  // namespace mesh::sdk
