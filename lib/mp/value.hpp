// Value RawValue.
#pragma once

#include "mp/sync/value.hpp"
