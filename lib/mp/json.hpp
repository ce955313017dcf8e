// Include this where a type with nlohmann's to_json and from_json (or a nlohmann::json) is sent: it travels as CBOR, if no other rule takes
// it. Apart from <mp/mp.hpp>, since it brings in all of nlohmann/json.
#pragma once

#include "mp/pickle/json.hpp"
