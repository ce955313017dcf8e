// ProcessPoolExecutor, ThreadPoolExecutor; Future, wait, as_completed.
#pragma once

#include "mp/pool/executor.hpp"
