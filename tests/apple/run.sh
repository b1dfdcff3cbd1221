#!/usr/bin/env bash
# Compiles every source of the library for macOS on Apple silicon, on any machine:
#   tests/apple/run.sh [python, default python3]
# clang, libc++ and the system's C headers are those of the Python package ziglang; Foundation/ declares as
# much of that framework as is used. It shows what Apple's compiler would refuse, not what a Mac would do.
set -euo pipefail
cd "$(dirname "$0")/../.."
export APPLE_CXX="${1:-python3} -m ziglang c++ -target aarch64-macos.14.0"

compile() {
  local flags=(-std=c++20 -O0 -g0 -Iinclude -Isrc -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Werror
    '-DORION_VERSION="0"')
  case $1 in
    *_bf16.cpp) flags+=(-Xclang -target-feature -Xclang +bf16 -Xclang -target-feature -Xclang +dotprod) ;;
    *.mm) flags+=(-isystem tests/apple -fno-objc-arc -fobjc-exceptions -fexceptions -fno-cxx-exceptions
      -Werror=objc-method-access -Werror=incompatible-pointer-types -Werror=unused-result) ;;
  esac
  $APPLE_CXX "${flags[@]}" -c "$1" -o "$2"
}
export -f compile

object=$(mktemp -d)
trap 'rm -rf "$object"' EXIT
find src -name '*.mm' -o -name '*.cpp' ! -path 'src/python/*' | sort |
  xargs -P2 -I{} bash -c 'compile "$1" "$2/$(basename "$1").o" || { echo "refused: $1"; exit 255; }' _ {} "$object"
echo "$(find "$object" -name '*.o' | wc -l) sources compile for macOS"
