// Start methods and contexts, freeze_support().
#pragma once

#include "mp/process/context.hpp"
