// SharedMemory.
#pragma once

#include "mp/memory/shared_memory.hpp"
