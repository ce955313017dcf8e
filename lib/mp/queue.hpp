// Queue, JoinableQueue, SimpleQueue.
#pragma once

#include "mp/channel/queue.hpp"
