# What the commands of this folder share; sourced, POSIX sh. Leaves the shell in the top folder of the checkout.
#
#   install_missing PACKAGE...   what apt has to bring; asks dpkg first, so that a machine that has all pays nothing
#   configure NAME CXX OPTION... build/NAME, made anew when compiler or options are not those it was made with

export LC_ALL=C.UTF-8

cd "$(dirname "$0")/.." || exit 1

# Everything that the library, its examples and its tests are built with.
base_packages='g++ meson ninja-build pkgconf libdw-dev nlohmann-json3-dev doctest-dev libcli11-dev libfmt-dev'
oldest_clang=16

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

may_install() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }

# The number in the name of the newest Clang that is installed, or nothing.
installed_clang() {
  for directory in $(printf '%s' "$PATH" | tr : ' '); do
    ls "$directory" 2>/dev/null
  done | sed -n 's/^clang++-\([0-9][0-9]*\)$/\1/p' | sort -n | tail -n 1
}

# That of the newest Clang that can be installed together with its sanitizers.
packaged_clang() {
  apt-cache --names-only search '^(lib)?clang(-rt)?-[0-9]*(-dev)?$' | awk '
    /^clang-/ { compiler[substr($1, 7)] = 1 }
    /^libclang-rt-/ { number = $1; gsub(/[^0-9]/, "", number); sanitizers[number] = 1 }
    END { for (number in compiler) if (number in sanitizers) print number }' | sort -n | tail -n 1
}

missing_of() {
  for package in "$@"; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
      installed) ;;
      *) printf '%s ' "$package" ;;
    esac
  done
}

install_missing() {
  command -v apt-get >/dev/null || return 0  # elsewhere Meson says what it does not find
  missing=$(missing_of $base_packages "$@")
  [ "$wanted_compiler" != clang ] || is_clang_there || missing="$missing CLANG"
  [ -n "$missing" ] || return 0

  if ! may_install; then
    apt-cache policy g++ 2>/dev/null | grep -q 'Candidate: [0-9]' ||
      die "packages are missing, and neither root nor a password-less sudo is at hand to install them. apt has no lists yet,
so first run this, then ${0##*/} again for the packages' names:

    sudo apt-get update
"
    die "packages are missing, and neither root nor a password-less sudo is at hand to install them. Run:

    sudo apt-get install $(name_packages "$missing")
"
  fi
  say "== installing what is missing"
  as_root apt-get update || say "apt-get update failed; going on with the lists that are there"
  names=$(name_packages "$missing")
  as_root apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 $names ||
    die "apt-get could not install: $names"
}

# Package names for a list in which CLANG stands for what apt knows.
name_packages() {
  for package in $1; do
    case $package in
      CLANG) clang=$(packaged_clang) && echo "clang-$clang libclang-rt-$clang-dev" ;;
      *) echo "$package" ;;
    esac
  done | tr '\n' ' ' | sed 's/ *$//'
}

# With the run-time library of the sanitizers, which is a package of its own.
is_clang_there() {
  clang=$(installed_clang)
  [ "${clang:-0}" -ge $oldest_clang ] && [ -z "$(missing_of "libclang-rt-$clang-dev")" ]
}

# The C++ compiler's command for gcc or clang.
compiler_command() {
  case $1 in
    gcc) echo "${CXX:-g++}" ;;
    clang) echo "clang++-$(installed_clang)" ;;
  esac
}

configure() {
  directory=build/$1 command=$2
  shift 2
  wanted="$command $*"
  if [ -f "$directory/build.ninja" ] && [ "$(cat "$directory/configured-with" 2>/dev/null)" = "$wanted" ]; then
    return 0
  fi
  say "== configuring $directory"
  rm -rf "$directory"
  CXX=$command meson setup "$directory" "$@" && printf '%s\n' "$wanted" >"$directory/configured-with"
}
