// The room's front door: values, callables and functions to bytes and back. Exceptions are apart (exception.hpp), JSON too (json.hpp).
#pragma once

#include "mp/pickle/callable.hpp"
#include "mp/pickle/code.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/pickle/value.hpp"
