// Whether LMDB may be let at a file: it follows what stands in its pages without a second look, so that a wrong byte
// there could end the process.
//
// Every page that it would follow is read here first, and must say what it can only say in a sound tree: each page in
// it once, its nodes side by side, its keys in order, its counts true. The bytes of values are not looked at, they have
// checksums of their own.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "common/base/slice.h"

namespace mesh::io {

// 0 for a sound file with one tree of plain keys, or where there is none; MDB_CORRUPTED; or the errno of reading it. A
// file that may grow beyond `bytes_max` is taken for damaged. `on_key` is told of every key, in order; it is valid
// during the call. Reads what the keys take, and the values that lie between them: those of up to 2 KiB.
int check_tree(const std::string& path, size_t bytes_max, const std::function<void(ByteView key)>& on_key);

}  // namespace mesh::io
