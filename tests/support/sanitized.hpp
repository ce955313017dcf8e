// Whether the address sanitizer watches this program: its handlers own the signals of crashes, and it takes memory of its own.
#pragma once

namespace test {

#if defined(__has_feature)
inline constexpr bool kAddressSanitized = __has_feature(address_sanitizer);
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitized = true;
#else
inline constexpr bool kAddressSanitized = false;
#endif

}  // namespace test
