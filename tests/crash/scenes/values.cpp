// Value and Array.
#include <mutex>

#include "../scene.hpp"
#include "mp/array.hpp"
#include "mp/errors.hpp"
#include "mp/value.hpp"

namespace crash {
namespace {

struct Pair {
  long a, b;
  long filler[20];
};

template <class T>
void add_number(Scenes& scenes, const std::string& type) {
  scenes.push_back({"values", "Value<" + type + "> +=", [] {
                      mp::Value<T> value(T(40));
                      return Act{.operation = [value]() mutable { value += T(2); },
                                 .survive =
                                     [value](Fate fate) mutable {
                                       const T now = value.get();
                                       expect(now == T(42) || (now == T(40) && !fate.finished),
                                              "neither the old nor the new number");
                                       value += T(1);
                                       expect(value.get() == now + T(1), "the survivor's +=");
                                     }};
                    }});
}

}  // namespace

void add_values(Scenes& scenes) {
  add_number<long>(scenes, "long");
  add_number<double>(scenes, "double");

  scenes.push_back({"values", "Value<struct>::set", [] {
                      mp::Value<Pair> value(Pair{1, 1, {}});
                      return Act{.operation = [value]() mutable { value.set(Pair{2, 2, {}}); },
                                 .survive =
                                     [value](Fate fate) mutable {
                                       Pair now{};
                                       bool told = false;
                                       try {
                                         now = value.get();
                                       } catch (const mp::OwnerDied&) {
                                         // Half written, and we are told so: put right.
                                         expect(!fate.finished, "the owner was said to be dead, but had released");
                                         told = true;
                                         value.get_lock().recover([&] { value.get_obj() = Pair{3, 3, {}}; });
                                         now = value.get();
                                       }
                                       expect(now.a == now.b, "a torn value");
                                       expect(told ? now.a == 3 : now.a == 2 || (now.a == 1 && !fate.finished),
                                              "neither the old nor the new value");
                                       value.set(Pair{4, 4, {}});
                                       expect(value.get().b == 4, "the survivor's set()");
                                     }};
                    }});
  scenes.push_back({"values", "Array<int>, an element under the lock", [] {
                      mp::Array<int> array(100);
                      return Act{.operation =
                                     [array]() mutable {
                                       std::scoped_lock guard(array);
                                       array[7] = 1;
                                       array[8] = 1;
                                     },
                                 .survive =
                                     [array](Fate fate) mutable {
                                       bool told = false;
                                       for (;;) {
                                         try {
                                           std::scoped_lock guard(array);
                                           if (told) array[8] = static_cast<int>(array[7]);
                                           expect(array[7] == array[8], "a torn pair");
                                           expect(array[7] == 1 || !fate.finished || told, "the change is lost");
                                           break;
                                         } catch (const mp::OwnerDied&) {
                                           expect(!told && !fate.finished, "the owner was said to be dead, and is not");
                                           told = true;
                                           array.get_lock().recover();
                                         }
                                       }
                                       for (int i = 0; i < 100; ++i)
                                         if (i != 7 && i != 8)
                                           expect(array[static_cast<std::size_t>(i)] == 0, "another element");
                                     }};
                    }});
}

}  // namespace crash
