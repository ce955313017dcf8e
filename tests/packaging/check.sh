#!/bin/sh
# usage: check.sh pkg-config|cmake|subproject SOURCE BUILD PREFIX   ($CXX compiles)
# Builds app/ in a temporary folder, against mp installed into that folder or as a subproject, and runs it.
set -eu
way=$1 source=$2 build=$3 prefix=$4
app=$source/tests/packaging/app
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

install_mp() {
  meson install -C "$build" --no-rebuild --quiet --destdir "$folder/root"
  installed=$folder/root$prefix
  library=$(find "$installed" -name 'libmp.*' | head -n 1)
  library_folder=${library%/*}
  export LD_LIBRARY_PATH="$library_folder"
}

case $way in
  pkg-config)
    install_mp
    export PKG_CONFIG_PATH="$library_folder/pkgconfig"
    flags=$(pkg-config --define-variable=prefix="$installed" --cflags --libs mp)
    echo "$flags"
    $CXX -std=c++20 -Wall -Wextra "$app/main.cpp" -o "$folder/app" $flags
    ;;
  cmake)
    command -v cmake >/dev/null || exit 77  # skipped
    install_mp
    cmake -G Ninja -S "$app" -B "$folder/build" -DCMAKE_PREFIX_PATH="$installed" -DCMAKE_CXX_COMPILER="${CXX##* }"
    cmake --build "$folder/build"
    mv "$folder/build/app" "$folder/app"
    ;;
  subproject)
    mkdir "$folder/app.source" "$folder/app.source/subprojects"
    cp "$app"/* "$folder/app.source"
    ln -s "$source" "$folder/app.source/subprojects/mp"
    meson setup "$folder/build" "$folder/app.source"
    ninja -C "$folder/build" app
    mv "$folder/build/app" "$folder/app"
    ;;
esac
"$folder/app"
