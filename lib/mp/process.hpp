// Process, current_process(), parent_process(), active_children().
#pragma once

#include "mp/os/cpu.hpp"
#include "mp/process/process.hpp"
