// Array RawArray.
#pragma once

#include "mp/sync/array.hpp"
