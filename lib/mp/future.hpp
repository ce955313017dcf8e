// Future, wait, as_completed.
#pragma once

#include "mp/pool/future.hpp"
