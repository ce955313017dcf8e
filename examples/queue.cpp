// Queue: a team of workers on one queue of jobs; each ends when the queue was shut down and is empty.
#include <iostream>
#include <string>
#include <vector>

#include <mp/mp.hpp>

struct Job {
  int number;
  std::string text;
};
struct Result {
  int number;
  std::size_t length;
  pid_t worker;
};

void work(mp::Queue<Job> jobs, mp::Queue<Result> results) {
  for (Job job : jobs) results.put({job.number, job.text.size(), mp::current_process().pid()});
}

int main() {
  constexpr int kJobs = 1000;
  mp::Queue<Job> jobs(100);  // holds 100 at most: put() waits for the workers
  mp::Queue<Result> results;
  std::vector<mp::Process> team;
  for (int i = 0; i < 4; ++i) team.emplace_back(work, jobs, results).start();

  for (int i = 0; i < kJobs; ++i) jobs.put({i, std::string(static_cast<std::size_t>(i), '*')});
  jobs.shutdown();
  int right = 0;
  for (int i = 0; i < kJobs; ++i) {
    Result r = results.get();
    right += r.length == static_cast<std::size_t>(r.number);
  }
  bool fine = right == kJobs;
  for (auto& p : team) {
    p.join();
    fine = fine && p.exitcode() == 0;
  }
  std::cout << right << " of " << kJobs << " results are right" << std::endl;
  return fine ? 0 : 1;
}
