// The members of an aggregate, counted and bound, with no macro in the user's code. Boost.PFR's job, done here because PFR 1.81
// takes an array member for as many members as it has elements, and makes GCC 12 crash on an array of strings.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace mp::pickle::detail {

// Converts to any object: stands for a member's initialiser. Never run; has a body since Clang asks for one.
struct Anything {
  constexpr explicit Anything(std::size_t) noexcept {}
  template <class U>
  operator U() const noexcept {
    __builtin_unreachable();
  }
};

template <class T>
struct BaseOf {
  template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>)
  operator U() const noexcept;
};

template <class T>
concept HasBase = requires(BaseOf<T> base) { T{base}; };

// An aggregate class that can be taken apart: no union, no base.
template <class T>
concept Aggregate = std::is_class_v<T> && std::is_aggregate_v<T> && !HasBase<T>;

// Stands for an element of an array. Not for one that cannot be copied: {a, b} could also be a vector's list, whose constructor Clang would
// then instantiate, to fail there.
struct AnyElement {
  constexpr explicit AnyElement(std::size_t) noexcept {}
  template <class U>
    requires std::is_copy_constructible_v<U>
  operator U() const noexcept {
    __builtin_unreachable();
  }
};

template <class T, std::size_t... before, std::size_t... in, std::size_t... after>
constexpr bool braces_fit(std::index_sequence<before...>, std::index_sequence<in...>, std::index_sequence<after...>) {
  if constexpr (sizeof...(in) == 0) return requires { T{Anything(before)..., Anything(after)...}; };
  else return requires { T{Anything(before)..., {AnyElement(in)...}, Anything(after)...}; };
}

// Parentheses, unlike braces, give each initialiser to one member: they do not fit if a member is an array.
template <class T, std::size_t... all>
constexpr bool parentheses_fit(std::index_sequence<all...>) {
  return requires { T(Anything(all)...); };
}

// Whether T{a, ..., {b, ...}, c, ...} is well-formed; without inner braces where `in` is 0.
template <class T, std::size_t before, std::size_t in, std::size_t after>
inline constexpr bool kBracesFit = braces_fit<T>(std::make_index_sequence<before>(), std::make_index_sequence<in>(),
                                                 std::make_index_sequence<after>());

// The most initialisers that T takes: from the first number that fits on they fit without a gap. kNone if none fits.
inline constexpr std::size_t kNone = static_cast<std::size_t>(-1);

template <class T, std::size_t fits, std::size_t too_many>
constexpr std::size_t bisect_initialisers() {
  if constexpr (fits + 1 == too_many) return fits;
  else if constexpr (kBracesFit<T, (fits + too_many) / 2, 0, 0>)
    return bisect_initialisers<T, (fits + too_many) / 2, too_many>();
  else return bisect_initialisers<T, fits, (fits + too_many) / 2>();
}

template <class T, std::size_t fits, std::size_t step = 1>
constexpr std::size_t most_initialisers() {
  if constexpr (kBracesFit<T, fits + step, 0, 0>) return most_initialisers<T, fits + step, step * 2>();
  else return bisect_initialisers<T, fits, fits + step>();
}

template <class T, std::size_t n = 0>
constexpr std::size_t count_initialisers() {
  if constexpr (kBracesFit<T, n, 0, 0>) return most_initialisers<T, n>();
  else if constexpr (n <= 64) return count_initialisers<T, n + 1>();
  else return kNone;
}

// How many of the `all` initialisers belong to the array that begins at `at`; 1 if none does. Bisected between `fits` and `too_many`.
template <class T, std::size_t at, std::size_t fits, std::size_t too_many>
constexpr std::size_t array_length() {
  if constexpr (fits + 1 == too_many) {
    return fits;
  } else {
    constexpr std::size_t middle = (fits + too_many) / 2;
    if constexpr (kBracesFit<T, at, middle, 0>) return array_length<T, at, middle, too_many>();
    else return array_length<T, at, fits, middle>();
  }
}

template <class T, std::size_t all, std::size_t at = 0, std::size_t members = 0>
constexpr std::size_t count_members() {
  if constexpr (at == all) {
    return members;
  } else if constexpr (at + 2 <= all) {
    // {a, b} fits an array as well as a member that is a class; but after an array fewer initialisers are left.
    if constexpr (kBracesFit<T, at, 2, 0> && !kBracesFit<T, at, 2, all - at - 1>)
      return count_members<T, all, at + array_length<T, at, 2, all - at + 1>(), members + 1>();
    else return count_members<T, all, at + 1, members + 1>();
  } else {
    return members + 1;
  }
}

template <class T>
constexpr std::size_t members_of() {
  constexpr std::size_t all = count_initialisers<T>();
  if constexpr (all == kNone || all < 2) return all;
  else if constexpr (parentheses_fit<T>(std::make_index_sequence<all>())) return all;
  else return count_members<T, all>();
}
template <class T>
inline constexpr std::size_t kMembers = members_of<T>();

inline constexpr std::size_t kMostMembers = 40;

#define MP_NAMES1 m1
#define MP_NAMES2 MP_NAMES1, m2
#define MP_NAMES3 MP_NAMES2, m3
#define MP_NAMES4 MP_NAMES3, m4
#define MP_NAMES5 MP_NAMES4, m5
#define MP_NAMES6 MP_NAMES5, m6
#define MP_NAMES7 MP_NAMES6, m7
#define MP_NAMES8 MP_NAMES7, m8
#define MP_NAMES9 MP_NAMES8, m9
#define MP_NAMES10 MP_NAMES9, m10
#define MP_NAMES11 MP_NAMES10, m11
#define MP_NAMES12 MP_NAMES11, m12
#define MP_NAMES13 MP_NAMES12, m13
#define MP_NAMES14 MP_NAMES13, m14
#define MP_NAMES15 MP_NAMES14, m15
#define MP_NAMES16 MP_NAMES15, m16
#define MP_NAMES17 MP_NAMES16, m17
#define MP_NAMES18 MP_NAMES17, m18
#define MP_NAMES19 MP_NAMES18, m19
#define MP_NAMES20 MP_NAMES19, m20
#define MP_NAMES21 MP_NAMES20, m21
#define MP_NAMES22 MP_NAMES21, m22
#define MP_NAMES23 MP_NAMES22, m23
#define MP_NAMES24 MP_NAMES23, m24
#define MP_NAMES25 MP_NAMES24, m25
#define MP_NAMES26 MP_NAMES25, m26
#define MP_NAMES27 MP_NAMES26, m27
#define MP_NAMES28 MP_NAMES27, m28
#define MP_NAMES29 MP_NAMES28, m29
#define MP_NAMES30 MP_NAMES29, m30
#define MP_NAMES31 MP_NAMES30, m31
#define MP_NAMES32 MP_NAMES31, m32
#define MP_NAMES33 MP_NAMES32, m33
#define MP_NAMES34 MP_NAMES33, m34
#define MP_NAMES35 MP_NAMES34, m35
#define MP_NAMES36 MP_NAMES35, m36
#define MP_NAMES37 MP_NAMES36, m37
#define MP_NAMES38 MP_NAMES37, m38
#define MP_NAMES39 MP_NAMES38, m39
#define MP_NAMES40 MP_NAMES39, m40
#define MP_TYPES1 decltype(m1)
#define MP_TYPES2 MP_TYPES1, decltype(m2)
#define MP_TYPES3 MP_TYPES2, decltype(m3)
#define MP_TYPES4 MP_TYPES3, decltype(m4)
#define MP_TYPES5 MP_TYPES4, decltype(m5)
#define MP_TYPES6 MP_TYPES5, decltype(m6)
#define MP_TYPES7 MP_TYPES6, decltype(m7)
#define MP_TYPES8 MP_TYPES7, decltype(m8)
#define MP_TYPES9 MP_TYPES8, decltype(m9)
#define MP_TYPES10 MP_TYPES9, decltype(m10)
#define MP_TYPES11 MP_TYPES10, decltype(m11)
#define MP_TYPES12 MP_TYPES11, decltype(m12)
#define MP_TYPES13 MP_TYPES12, decltype(m13)
#define MP_TYPES14 MP_TYPES13, decltype(m14)
#define MP_TYPES15 MP_TYPES14, decltype(m15)
#define MP_TYPES16 MP_TYPES15, decltype(m16)
#define MP_TYPES17 MP_TYPES16, decltype(m17)
#define MP_TYPES18 MP_TYPES17, decltype(m18)
#define MP_TYPES19 MP_TYPES18, decltype(m19)
#define MP_TYPES20 MP_TYPES19, decltype(m20)
#define MP_TYPES21 MP_TYPES20, decltype(m21)
#define MP_TYPES22 MP_TYPES21, decltype(m22)
#define MP_TYPES23 MP_TYPES22, decltype(m23)
#define MP_TYPES24 MP_TYPES23, decltype(m24)
#define MP_TYPES25 MP_TYPES24, decltype(m25)
#define MP_TYPES26 MP_TYPES25, decltype(m26)
#define MP_TYPES27 MP_TYPES26, decltype(m27)
#define MP_TYPES28 MP_TYPES27, decltype(m28)
#define MP_TYPES29 MP_TYPES28, decltype(m29)
#define MP_TYPES30 MP_TYPES29, decltype(m30)
#define MP_TYPES31 MP_TYPES30, decltype(m31)
#define MP_TYPES32 MP_TYPES31, decltype(m32)
#define MP_TYPES33 MP_TYPES32, decltype(m33)
#define MP_TYPES34 MP_TYPES33, decltype(m34)
#define MP_TYPES35 MP_TYPES34, decltype(m35)
#define MP_TYPES36 MP_TYPES35, decltype(m36)
#define MP_TYPES37 MP_TYPES36, decltype(m37)
#define MP_TYPES38 MP_TYPES37, decltype(m38)
#define MP_TYPES39 MP_TYPES38, decltype(m39)
#define MP_TYPES40 MP_TYPES39, decltype(m40)
#define MP_CASE(n)                                          \
  else if constexpr (kMembers<T> == n) {                    \
    auto& [MP_NAMES##n] = t;                                \
    return f.template operator()<MP_TYPES##n>(MP_NAMES##n); \
  }

// f<Types...>(members...): the members as lvalues, with their declared types (references too).
template <class T, class Whole, class F>
constexpr decltype(auto) with_members(Whole& t, F&& f) {
  if constexpr (kMembers<T> == 0) {
    static_cast<void>(t);
    return f.template operator()<>();
  }
  MP_CASE(1)
  MP_CASE(2)
  // clang-format off
  MP_CASE(3) MP_CASE(4) MP_CASE(5) MP_CASE(6) MP_CASE(7) MP_CASE(8) MP_CASE(9) MP_CASE(10) MP_CASE(11) MP_CASE(12)
  MP_CASE(13) MP_CASE(14) MP_CASE(15) MP_CASE(16) MP_CASE(17) MP_CASE(18) MP_CASE(19) MP_CASE(20) MP_CASE(21) MP_CASE(22)
  MP_CASE(23) MP_CASE(24) MP_CASE(25) MP_CASE(26) MP_CASE(27) MP_CASE(28) MP_CASE(29) MP_CASE(30) MP_CASE(31) MP_CASE(32)
  MP_CASE(33) MP_CASE(34) MP_CASE(35) MP_CASE(36) MP_CASE(37) MP_CASE(38) MP_CASE(39) MP_CASE(40)
  // clang-format on
}

#undef MP_CASE
#undef MP_NAMES1
#undef MP_TYPES1
#undef MP_NAMES2
#undef MP_TYPES2
#undef MP_NAMES3
#undef MP_TYPES3
#undef MP_NAMES4
#undef MP_TYPES4
#undef MP_NAMES5
#undef MP_TYPES5
#undef MP_NAMES6
#undef MP_TYPES6
#undef MP_NAMES7
#undef MP_TYPES7
#undef MP_NAMES8
#undef MP_TYPES8
#undef MP_NAMES9
#undef MP_TYPES9
#undef MP_NAMES10
#undef MP_TYPES10
#undef MP_NAMES11
#undef MP_TYPES11
#undef MP_NAMES12
#undef MP_TYPES12
#undef MP_NAMES13
#undef MP_TYPES13
#undef MP_NAMES14
#undef MP_TYPES14
#undef MP_NAMES15
#undef MP_TYPES15
#undef MP_NAMES16
#undef MP_TYPES16
#undef MP_NAMES17
#undef MP_TYPES17
#undef MP_NAMES18
#undef MP_TYPES18
#undef MP_NAMES19
#undef MP_TYPES19
#undef MP_NAMES20
#undef MP_TYPES20
#undef MP_NAMES21
#undef MP_TYPES21
#undef MP_NAMES22
#undef MP_TYPES22
#undef MP_NAMES23
#undef MP_TYPES23
#undef MP_NAMES24
#undef MP_TYPES24
#undef MP_NAMES25
#undef MP_TYPES25
#undef MP_NAMES26
#undef MP_TYPES26
#undef MP_NAMES27
#undef MP_TYPES27
#undef MP_NAMES28
#undef MP_TYPES28
#undef MP_NAMES29
#undef MP_TYPES29
#undef MP_NAMES30
#undef MP_TYPES30
#undef MP_NAMES31
#undef MP_TYPES31
#undef MP_NAMES32
#undef MP_TYPES32
#undef MP_NAMES33
#undef MP_TYPES33
#undef MP_NAMES34
#undef MP_TYPES34
#undef MP_NAMES35
#undef MP_TYPES35
#undef MP_NAMES36
#undef MP_TYPES36
#undef MP_NAMES37
#undef MP_TYPES37
#undef MP_NAMES38
#undef MP_TYPES38
#undef MP_NAMES39
#undef MP_TYPES39
#undef MP_NAMES40
#undef MP_TYPES40

}  // namespace mp::pickle::detail
