// Pipe, Connection, connection::wait.
#pragma once

#include "mp/channel/connection.hpp"
#include "mp/channel/wait.hpp"
