// The contracts in a configuration. Private to config.cc.
#pragma once

#include "sidecar/proxy/config_reader.h"

namespace mesh::proxy {

// Reads /contracts into `table`; what is wrong with it, also with what its entries mean together, is told to `in`.
void read_contracts(Reader& in, const Json& contracts, contract::Table& table);

}  // namespace mesh::proxy
