// The whole library but for what costs much to include and few need (<mp/json.hpp>).
#pragma once

#include "mp/array.hpp"
#include "mp/connection.hpp"
#include "mp/context.hpp"
#include "mp/errors.hpp"
#include "mp/executor.hpp"
#include "mp/future.hpp"
#include "mp/pickle.hpp"
#include "mp/pool.hpp"
#include "mp/process.hpp"
#include "mp/queue.hpp"
#include "mp/shared_memory.hpp"
#include "mp/sync.hpp"
#include "mp/value.hpp"
