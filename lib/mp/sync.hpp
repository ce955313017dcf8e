// Lock RLock Semaphore BoundedSemaphore Condition Event Barrier.
#pragma once

#include "mp/sync/barrier.hpp"
#include "mp/sync/condition.hpp"
#include "mp/sync/event.hpp"
#include "mp/sync/lock.hpp"
#include "mp/sync/semaphore.hpp"
