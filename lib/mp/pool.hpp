// Pool, ThreadPool, AsyncResult.
#pragma once

#include "mp/pool/pool.hpp"
