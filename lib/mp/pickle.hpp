// What a program says about its own types and callables: mp_pickle (mp::pickle::Writer, Reader), mp::partial, mp::register_exception,
// mp::remote_of; and dumps and loads. Python: pickle, functools.partial.
#pragma once

#include "mp/pickle/exception.hpp"
#include "mp/pickle/pickle.hpp"
