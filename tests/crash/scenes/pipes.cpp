// Connections: send and recv of small and large messages, from empty and full pipes.
#include "../scene.hpp"
#include "mp/connection.hpp"
#include "mp/errors.hpp"

namespace crash {
namespace {

std::string message(int number, std::size_t size) { return std::string(size, static_cast<char>('a' + number)); }

// The number of a message, which must be whole.
int number_of(const std::string& text, std::size_t size) {
  const int number = text.empty() ? -1 : text[0] - 'a';
  expect(number >= 0 && text == message(number, size), "a torn message");
  return number;
}

std::string receive(mp::Connection& from) {
  expect(from.poll(kLimit), "hangs: poll()");
  return from.recv_bytes();
}

struct Ends {
  mp::Connection here, there;
};
std::shared_ptr<Ends> pipe() {
  auto [here, there] = mp::Pipe();
  return std::make_shared<Ends>(Ends{std::move(here), std::move(there)});
}

// To and fro, with nothing left in it.
void use(Ends& ends, std::size_t size) {
  for (int i = 0; i < 3; ++i) {
    ends.here.send_bytes(message(i, size));
    expect_equal(number_of(receive(ends.there), size), i, "the message there");
    ends.there.send_bytes(message(i, size));
    expect_equal(number_of(receive(ends.here), size), i, "the message back");
  }
  expect(!ends.here.poll() && !ends.there.poll(), "a message too many");
}

void add(Scenes& scenes, const std::string& what, std::size_t size) {
  for (int held : {0, 2}) {
    scenes.push_back({"pipes", "send " + what + (held ? ", two under way" : ", empty"), [=] {
                        auto ends = pipe();
                        for (int i = 0; i < held; ++i) ends->here.send_bytes(message(i, size));
                        return Act{.operation = [=, mine = message(held, size)] { ends->here.send_bytes(mine); },
                                   .survive =
                                       [=](Fate fate) {
                                         ends->here.send_bytes(message(9, size));
                                         for (int i = 0; i < held; ++i)
                                           expect_equal(number_of(receive(ends->there), size), i,
                                                        "a message from before");
                                         int got = number_of(receive(ends->there), size);
                                         expect(got == held || !fate.finished, "the message is lost");
                                         if (got == held) got = number_of(receive(ends->there), size);
                                         expect_equal(got, 9, "the survivor's message");
                                         use(*ends, size);
                                       }};
                      }});
  }
  scenes.push_back({"pipes", "send " + what + ", then received", [=] {
                      auto ends = pipe();
                      ends->here.send_bytes(message(0, size)), ends->there.recv_bytes();
                      return Act{.operation = [=, mine = message(1, size)] { ends->here.send_bytes(mine); },
                                 .survive =
                                     [=](Fate fate) {
                                       const bool came = ends->there.poll();
                                       expect(came || !fate.finished, "the message is lost");
                                       if (came) expect_equal(number_of(receive(ends->there), size), 1, "the message");
                                       expect(!ends->there.poll(), "a message too many");
                                       use(*ends, size);
                                     }};
                    }});
  scenes.push_back({"pipes", "recv " + what, [=] {
                      auto ends = pipe();
                      ends->here.send_bytes(message(0, size));
                      ends->here.send_bytes(message(1, size));
                      return Act{.operation = [=] { ends->there.recv_bytes(); },
                                 .survive =
                                     [=](Fate fate) {
                                       int got = number_of(receive(ends->there), size);
                                       expect(got == 1 || !fate.finished, "a message was handed out twice");
                                       if (got == 0) got = number_of(receive(ends->there), size);
                                       expect_equal(got, 1, "the second message");
                                       use(*ends, size);
                                     }};
                    }});
  scenes.push_back({"pipes", "recv " + what + ", empty", [=] {
                      auto ends = pipe();
                      auto sent = std::make_shared<bool>(false);
                      return Act{.operation = [=] { ends->there.recv_bytes(); },
                                 .unblock = [=] { ends->here.send_bytes(message(0, size)), *sent = true; },
                                 .survive =
                                     [=](Fate fate) {
                                       const bool left = ends->there.poll();
                                       expect(!left || *sent, "a message out of nothing");
                                       expect(!left || !fate.finished, "a message was handed out twice");
                                       if (left) expect_equal(number_of(receive(ends->there), size), 0, "the message");
                                       use(*ends, size);
                                     }};
                    }});
  scenes.push_back({"pipes", "send " + what + ", full", [=] {
                      auto ends = pipe();
                      for (int i = 0; i < 4; ++i) ends->here.send_bytes(message(i, 262'000));  // of 1 MiB
                      auto taken = std::make_shared<bool>(false);
                      return Act{.operation = [=, mine = message(4, size)] { ends->here.send_bytes(mine); },
                                 .unblock =
                                     [=] {
                                       for (int i = 0; i < 4; ++i) ends->there.recv_bytes();
                                       *taken = true;
                                     },
                                 .survive =
                                     [=](Fate fate) {
                                       for (int i = *taken ? 4 : 0; i < 4; ++i)
                                         expect_equal(number_of(receive(ends->there), 262'000), i,
                                                      "a message from before");
                                       const bool came = ends->there.poll();
                                       expect(came || !fate.finished, "the message is lost");
                                       if (came) expect_equal(number_of(receive(ends->there), size), 4, "the message");
                                       use(*ends, size);
                                     }};
                    }});
}

}  // namespace

void add_pipes(Scenes& scenes) {
  add(scenes, "40 bytes", 40);
  add(scenes, "9 KB", 9'000);

  // The victim has the only handle of its end.
  scenes.push_back({"pipes", "close, the only handle of an end", [] {
                      auto ends = pipe();
                      return Act{.prepare = [=] { ends->there.poll(); },  // from here on it has it open, too
                                 .operation = [=] { ends->there.close(); },
                                 .before = [=] { ends->there.close(); },
                                 .survive =
                                     [=](Fate) {
                                       expect(ends->here.poll(kLimit), "hangs: poll() for the end of file");
                                       try {
                                         ends->here.recv_bytes();
                                         throw Violation("a message out of nothing");
                                       } catch (const mp::EOFError&) {}
                                     }};
                    }});
  scenes.push_back({"pipes", "copy a handle and close the copy", [] {
                      auto ends = pipe();
                      return Act{.operation = [=] { mp::Connection copy = ends->there; },
                                 .survive = [=](Fate) { use(*ends, 40); }};
                    }});
}

}  // namespace crash
