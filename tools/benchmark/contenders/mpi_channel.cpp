// Open MPI, two ranks of one machine: the first measures, the second answers. It never sleeps.
#define OMPI_SKIP_MPICXX 1  // the old C++ bindings are full of warnings
#include <mpi.h>

#include "channel_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

int rank() {
  int mine;
  MPI_Comm_rank(MPI_COMM_WORLD, &mine);
  return mine;
}

template <class T>
void put(const T& item) {
  MPI_Send(&item, sizeof(T), MPI_BYTE, 1 - rank(), 0, MPI_COMM_WORLD);
}
template <class T>
T get() {
  T item;
  MPI_Recv(&item, sizeof(T), MPI_BYTE, 1 - rank(), 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return item;
}

template <class T>
void through(std::size_t count) {
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank() == 1) {
    for (std::size_t n = 0; n < count; ++n) keep(get<T>());
    put(static_cast<long>(cpu()));
    return;
  }
  long other_cpu;
  time_per(count, [&] {
    for (std::size_t n = 0; n < count; ++n) put(T{});
    other_cpu = get<long>();
  });
  print("two-cores-percent",
        other_cpu != cpu() ? 100 : 0);  // a look at the end: mpirun binds each to a core, or neither
}
void one_to_one() { through<long>(size(1'000'000, 1000)); }
void kib() { through<Kib>(size(100'000, 500)); }

void awake() {
  if (rank() == 1) {
    for (long word; (word = get<long>()) != kEnd;) put(echo_of(word));
    return;
  }
  time_echo(size(50'000, 100), 0us, [](long word) {
    put(word);
    return get<long>();
  });
  put(kEnd);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int status = bench::contend(
      argc, argv, {{{"queue-1to1", bench::one_to_one}, {"queue-kib", bench::kib}, {"pipe-awake", bench::awake}}});
  MPI_Finalize();
  return status;
}
