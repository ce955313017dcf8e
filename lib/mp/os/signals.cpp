#include "mp/os/signals.hpp"

#include <signal.h>
#include <string.h>

namespace mp::os {
namespace {

const char* of_any_signal(int code) {
  switch (code) {
    case SI_USER: return "SI_USER";
    case SI_KERNEL: return "SI_KERNEL";
    case SI_QUEUE: return "SI_QUEUE";
    case SI_TIMER: return "SI_TIMER";
    case SI_MESGQ: return "SI_MESGQ";
    case SI_ASYNCIO: return "SI_ASYNCIO";
    case SI_SIGIO: return "SI_SIGIO";
    case SI_TKILL: return "SI_TKILL";
    default: return nullptr;
  }
}

const char* of_segv(int code) {
  switch (code) {
    case SEGV_MAPERR: return "SEGV_MAPERR";
    case SEGV_ACCERR: return "SEGV_ACCERR";
    case SEGV_BNDERR: return "SEGV_BNDERR";
    case SEGV_PKUERR: return "SEGV_PKUERR";
    case 8: return "SEGV_MTEAERR";
    case 9: return "SEGV_MTESERR";
    case 10: return "SEGV_CPERR";
    default: return nullptr;
  }
}

const char* of_bus(int code) {
  switch (code) {
    case BUS_ADRALN: return "BUS_ADRALN";
    case BUS_ADRERR: return "BUS_ADRERR";
    case BUS_OBJERR: return "BUS_OBJERR";
    case BUS_MCEERR_AR: return "BUS_MCEERR_AR";
    case BUS_MCEERR_AO: return "BUS_MCEERR_AO";
    default: return nullptr;
  }
}

const char* of_fpe(int code) {
  switch (code) {
    case FPE_INTDIV: return "FPE_INTDIV";
    case FPE_INTOVF: return "FPE_INTOVF";
    case FPE_FLTDIV: return "FPE_FLTDIV";
    case FPE_FLTOVF: return "FPE_FLTOVF";
    case FPE_FLTUND: return "FPE_FLTUND";
    case FPE_FLTRES: return "FPE_FLTRES";
    case FPE_FLTINV: return "FPE_FLTINV";
    case FPE_FLTSUB: return "FPE_FLTSUB";
    default: return nullptr;
  }
}

const char* of_ill(int code) {
  switch (code) {
    case ILL_ILLOPC: return "ILL_ILLOPC";
    case ILL_ILLOPN: return "ILL_ILLOPN";
    case ILL_ILLADR: return "ILL_ILLADR";
    case ILL_ILLTRP: return "ILL_ILLTRP";
    case ILL_PRVOPC: return "ILL_PRVOPC";
    case ILL_PRVREG: return "ILL_PRVREG";
    case ILL_COPROC: return "ILL_COPROC";
    case ILL_BADSTK: return "ILL_BADSTK";
    default: return nullptr;
  }
}

const char* of_trap(int code) {
  switch (code) {
    case TRAP_BRKPT: return "TRAP_BRKPT";
    case TRAP_TRACE: return "TRAP_TRACE";
    default: return nullptr;
  }
}

const char* of_signal(int signal, int code) {
  if (const char* name = of_any_signal(code)) return name;
  switch (signal) {
    case SIGSEGV: return of_segv(code);
    case SIGBUS: return of_bus(code);
    case SIGFPE: return of_fpe(code);
    case SIGILL: return of_ill(code);
    case SIGTRAP: return of_trap(code);
    case SIGSYS: return code == 1 ? "SYS_SECCOMP" : nullptr;
    default: return nullptr;
  }
}

}  // namespace

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

std::string signal_code_name(int signal, int code) {
  const char* name = of_signal(signal, code);
  return name != nullptr ? name : "code " + std::to_string(code);
}

}  // namespace mp::os
