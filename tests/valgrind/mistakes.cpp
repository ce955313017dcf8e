// Makes the mistake that it is told to, in a child that is killed afterwards, and ends well: only who watches all processes fails it.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

int main(int argc, char** argv) {
  const std::string_view mistake = argc > 1 ? argv[1] : "";
  const pid_t child = ::fork();
  if (child == 0) {
    volatile int* number = static_cast<int*>(std::malloc(sizeof(int)));
    if (mistake == "freed") {
      *number = 1;
      std::free(const_cast<int*>(number));
    }
    if (mistake == "freed" || mistake == "uninitialised")
      if (*number == 7) ::write(STDOUT_FILENO, "7\n", 2);
    ::raise(SIGKILL);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 1;
}
