#include "mp/process/context.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "mp/errors.hpp"
#include "mp/process/process.hpp"
#include "support.hpp"

using test::Fork, test::Forkserver, test::Spawn;

namespace {

void exits_with_method() {
  auto method = mp::get_start_method_if_set();
  ::_exit(method ? static_cast<int>(*method) : 9);
}

// Runs tests/unit/process/forgetful.cpp with `argument`: its exit status and what it wrote.
std::pair<int, std::string> run_forgetful(const std::string& argument, const std::string& environment = "") {
  auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "unit/process/forgetful";
  REQUIRE(std::filesystem::exists(program));
  FILE* pipe = ::popen((environment + " " + program.string() + " " + argument + " 2>&1").c_str(), "r");
  REQUIRE(pipe);
  std::string text;
  for (int c; (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), text};
}

}  // namespace

TEST_CASE("contexts have the names of Python's start methods") {
  CHECK(mp::get_context("fork").method() == mp::fork);
  CHECK(mp::get_context("spawn").method() == mp::spawn);
  CHECK(mp::get_context("forkserver").get_start_method() == mp::forkserver);
  CHECK_THROWS_AS(mp::get_context("thread"), mp::ValueError);
  CHECK(mp::get_all_start_methods() == std::vector{mp::fork, mp::spawn, mp::forkserver});
}

TEST_CASE("the start method is chosen once, or with force") {
  mp::set_start_method(std::nullopt, true);
  CHECK_FALSE(mp::get_start_method_if_set());
  CHECK(mp::get_start_method() == mp::fork);
  CHECK(mp::get_start_method_if_set() == mp::fork);
  CHECK_THROWS_AS(mp::set_start_method(mp::spawn), mp::ValueError);
  CHECK_THROWS_AS(mp::set_start_method("thread", true), mp::ValueError);
  mp::set_start_method("spawn", true);
  CHECK(mp::Context().method() == mp::spawn);
  CHECK(mp::get_context(mp::fork).method() == mp::fork);
  mp::set_start_method(std::nullopt, true);
}

TEST_CASE_TEMPLATE("children inherit the program's start method", M, Fork, Spawn, Forkserver) {
  mp::Context context = M::method;
  auto in_child = [&] {
    mp::Process p = context.Process(exits_with_method);
    p.start();
    p.join();
    return p.exitcode();
  };
  CHECK(in_child() == 9);
  mp::set_start_method(mp::forkserver, true);
  CHECK(in_child() == static_cast<int>(mp::forkserver));
  mp::set_start_method(std::nullopt, true);
}

TEST_CASE("forgetting freeze_support is an error at once, with words, and no fork bomb") {
  for (std::string method : {"spawn", "forkserver"}) {
    auto [status, text] = run_forgetful(method);
    CHECK(status == 3);
    CHECK(text.find("let main begin with mp::freeze_support()") != std::string::npos);
    CHECK(text.find("runs", text.find("runs") + 1) == std::string::npos);  // it began once
  }
}

TEST_CASE("a child whose main has no freeze_support ends at its first process") {
  // Another program is executed than the one that called freeze_support().
  auto [status, text] = run_forgetful("deceived");
  CHECK(status == 1);  // of the child, told by its parent
  CHECK(text.find("main does not begin with mp::freeze_support(); it ends here") != std::string::npos);
}

TEST_CASE("a program executed by hand with a child's arguments says that it is none") {
  auto [status, text] = run_forgetful("--multiprocessing-fork 3 17 3< /dev/null", "REMEMBERS=1");
  CHECK(status == 1);
  CHECK(text.find("cannot be one") != std::string::npos);
}

TEST_CASE("shared objects in globals work in spawned children") {
  auto [status, text] = run_forgetful("globals", "REMEMBERS=1 GLOBALS=1");
  CHECK(status == 0);
}
