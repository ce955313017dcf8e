// Arena and references.
#include <cstring>

#include "../scene.hpp"
#include "mp/memory/arena.hpp"
#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"
#include "mp/sync.hpp"

namespace crash {
namespace {

using mp::memory::Offset;

// Whatever became of the victim, blocks can be had, are one's own, and freed again.
void use_arena(std::size_t size) {
  std::vector<Offset> blocks;
  for (int i = 0; i < 6; ++i) {
    blocks.push_back(mp::memory::allocate(size));
    std::memset(mp::memory::at<void>(blocks.back()), i + 1, size);
  }
  for (int i = 0; i < 6; ++i)
    for (std::size_t at : {std::size_t{0}, size / 2, size - 1})
      expect_equal(int{mp::memory::at<unsigned char>(blocks[static_cast<std::size_t>(i)])[at]}, i + 1,
                   "a block that somebody else wrote to");
  for (Offset block : blocks) mp::memory::deallocate(block);
}

// The dead one's tag is in order again before what it held is looked at.
void bury() {
  if (mp::memory::Tag tag = stage->tag) mp::memory::retire(tag);
}

void add_block(Scenes& scenes, const std::string& what, std::size_t size) {
  // The victim writes down what it got, so that one instruction is left in which a block is nobody's.
  const auto allocate = [size] { stage->word[0] = mp::memory::allocate(size); };
  const auto survive = [size](Fate fate) {
    bury();
    const Offset got = stage->word[0];
    expect(got != 0 || !fate.finished, "nothing was allocated");
    if (got) mp::memory::deallocate(got);
    use_arena(size);
  };
  scenes.push_back({"memory", "allocate " + what + ", the first of a process",
                    [=] { return Act{.operation = allocate, .survive = survive}; }});
  scenes.push_back({"memory", "allocate " + what, [=] {
                      return Act{.prepare = [size] { mp::memory::deallocate(mp::memory::allocate(size)); },
                                 .operation = allocate,
                                 .survive = survive};
                    }});
  scenes.push_back({"memory", "free " + what, [size] {
                      const Offset block = mp::memory::allocate(size);
                      return Act{.operation = [block] { mp::memory::deallocate(block); },
                                 .survive =
                                     [=](Fate fate) {
                                       bury();
                                       // Ours is what we would have to free ourselves, if the victim has not.
                                       if (fate.finished)
                                         expect(mp::memory::block_size(block) == 0, "the block is still there");
                                       else if (mp::memory::block_size(block) != 0) mp::memory::deallocate(block);
                                       use_arena(size);
                                     }};
                    }});
}

}  // namespace

void add_memory(Scenes& scenes) {
  add_block(scenes, "100 bytes", 100);
  add_block(scenes, "100 KB", 100'000);
  add_block(scenes, "2 MB", 2'000'000);

  scenes.push_back({"memory", "make a shared object", [] {
                      return Act{.operation = [] { mp::memory::create<long>(mp::memory::Kind::value, 5, 0, 7L); },
                                 .survive =
                                     [](Fate) {
                                       bury();
                                       mp::memory::Ref ref =
                                           mp::memory::create<long>(mp::memory::Kind::value, 5, 0, 7L);
                                       expect(ref.as<long>() == 7, "a new object's value");
                                     }};
                    }});
  // What the victim holds in addition is its own: we hold ours and must find it whole; when we let go, it is gone.
  scenes.push_back({"memory", "copy a handle to one's own, let go of it", [] {
                      auto object = std::make_shared<mp::memory::Ref>(
                          mp::memory::create<long>(mp::memory::Kind::value, 5, 0, 7L));
                      return Act{.operation =
                                     [object] {
                                       mp::memory::Ref copy = *object;
                                       copy = mp::memory::Ref();
                                     },
                                 .survive =
                                     [object](Fate) {
                                       bury();
                                       expect(mp::memory::is_object(object->offset(), mp::memory::Kind::value, 5),
                                              "the object is gone");
                                       expect(object->as<long>() == 7, "the object's value");
                                     }};
                    }});
  scenes.push_back(
      {"memory", "take the first reference to an object that another holds", [] {
         auto object = std::make_shared<mp::memory::Ref>();
         const mp::memory::Ref made = mp::memory::create<long>(mp::memory::Kind::value, 5, 0, 7L);
         const Offset offset = made.offset();
         mp::memory::retain(offset);  // as a message would; this process holds none itself, nor does its child
         return Act{.operation = [offset] { mp::memory::Ref mine(offset); },
                    .survive =
                        [offset](Fate) {
                          bury();
                          expect(mp::memory::is_object(offset, mp::memory::Kind::value, 5), "the object is gone");
                          mp::memory::release(offset);
                        }};
       }});
  scenes.push_back(
      {"memory", "let go of the last reference", [] {
         auto object = std::make_shared<mp::memory::Ref>(mp::memory::create<long>(mp::memory::Kind::value, 5, 0, 7L));
         return Act{.operation = [object] { *object = mp::memory::Ref(); },
                    .survive =
                        [object](Fate) {
                          bury();
                          expect(mp::memory::is_object(object->offset(), mp::memory::Kind::value, 5),
                                 "the object is gone");
                          *object = mp::memory::Ref();
                          mp::memory::Ref next = mp::memory::create<long>(mp::memory::Kind::value, 5, 0, 8L);
                          expect(next.as<long>() == 8, "the next object's value");
                        }};
       }});
}

}  // namespace crash
