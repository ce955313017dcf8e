// Value and Array: numbers that all processes see. += is atomic; whatever takes several steps is done under the lock.
#include <iostream>
#include <mutex>
#include <numeric>
#include <vector>

#include <mp/mp.hpp>

struct Range {
  long least, most;
};

int main() {
  mp::Value<long> hits(0);
  mp::Value<Range> seen(Range{1'000'000, -1});
  mp::Array<double> grid(1000);
  mp::Pool pool(4);
  std::vector<int> rows(10);
  std::iota(rows.begin(), rows.end(), 0);

  pool.map(
      [hits, seen, grid](int row) mutable {
        for (double& cell : grid.span().subspan(static_cast<std::size_t>(row) * 100, 100)) {
          cell = row;
          hits += 1;
        }
        std::scoped_lock guard(seen);
        Range& r = seen.get_obj();
        if (row < r.least) r.least = row;
        if (row > r.most) r.most = row;
      },
      rows);

  double sum = std::accumulate(grid.begin(), grid.end(), 0.0);
  Range r = seen.get();
  std::cout << hits.value() << " cells written, their sum is " << sum << ", rows " << r.least << " to " << r.most
            << std::endl;
  return hits.value() == 1000 && sum == 4500 && r.least == 0 && r.most == 9 ? 0 : 1;
}
