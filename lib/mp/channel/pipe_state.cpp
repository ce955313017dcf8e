#include "mp/channel/pipe_state.hpp"

#include <algorithm>
#include <new>
#include <vector>

namespace mp::channel {
namespace {

[[maybe_unused]] const bool registered = memory::set_destroyer(
    memory::Kind::stream,
    [](void* object) noexcept {
      auto& pipe = *static_cast<PipeState*>(object);
      for (Stream& stream : pipe.streams) stream.destroy();
      for (Openers& openers : pipe.openers) openers.destroy();
      for (std::atomic<Offset>& token : pipe.tokens)
        if (const Offset mine = token.exchange(0, std::memory_order_acq_rel)) memory::try_release(mine);
    },
    alignof(PipeState));

// Held by its pipe from the beginning, by no process.
Offset make_token(std::uint32_t side) {
  const Offset token = memory::create_raw(memory::Kind::pipe, 0, sizeof(Token), alignof(Token));
  new (memory::at<void>(token)) Token{0, side};
  return token;
}

}  // namespace

memory::Ref make_pipe(bool duplex) {
  memory::start();
  Offset tokens[2] = {};
  try {
    for (std::uint32_t side : {0u, 1u}) tokens[side] = make_token(side);
    memory::Ref pipe = memory::create<PipeState>(memory::Kind::stream, 0, 0, duplex, tokens[0], tokens[1]);
    for (Offset token : tokens) memory::at<Token>(token)->pipe = pipe.offset();
    return pipe;
  } catch (...) {
    for (Offset token : tokens)
      if (token != 0) memory::release(token);
    throw;
  }
}

void keep_in_child(memory::Tag child, std::span<const Offset> objects) {
  std::vector<Offset> tokens;
  for (Offset object : objects)
    if (memory::is_object(object, memory::Kind::pipe)) tokens.push_back(object);
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (Offset object : tokens) {
    const auto* token = memory::try_object<Token>(object, memory::Kind::pipe);
    auto* pipe = token != nullptr ? memory::try_object<PipeState>(token->pipe, memory::Kind::stream) : nullptr;
    if (pipe != nullptr && token->side < 2) pipe->openers[token->side].give(child);
  }
}

}  // namespace mp::channel
