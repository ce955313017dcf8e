// Signals, and the codes that say why the kernel sent one, by name.
#pragma once

#include <string>

namespace mp::os {

// "SIGSEGV"; "signal 40" where it has no name.
std::string signal_name(int signal);

// siginfo's si_code: "SEGV_MAPERR", "SI_USER"; "code 17" where it has no name.
std::string signal_code_name(int signal, int code);

}  // namespace mp::os
