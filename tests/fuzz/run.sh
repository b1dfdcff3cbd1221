#!/usr/bin/env bash
# Fuzzes the readers of hostile files under AddressSanitizer and UndefinedBehaviorSanitizer:
#   tests/fuzz/run.sh [seconds per target, default 120]
# Needs cmake and a clang with libFuzzer (CXX, else clang++-19, else clang++). Builds in
# ORION_FUZZ_BUILD, else build/fuzz; ORION_FUZZ_BUILT names a build that has the targets already. Starts
# from the inputs in corpus/; new ones stay in the build.
set -euo pipefail

seconds=${1:-120}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${ORION_FUZZ_BUILT:-${ORION_FUZZ_BUILD:-$root/build/fuzz}}
compiler=${CXX:-$(command -v clang++-19 || command -v clang++)}

targets=()
for source in "$here"/fuzz_*.cpp; do targets+=("$(basename "$source" .cpp)"); done

if [[ -z ${ORION_FUZZ_BUILT:-} ]]; then
  cmake -S "$root" -B "$build" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DORION_FUZZ=ON -DORION_SANITIZE=address,undefined -DORION_ANE=OFF
  cmake --build "$build" --target "${targets[@]}" -j 2
fi

for target in "${targets[@]}"; do
  subject=${target#fuzz_}
  mkdir -p "$build/corpus/$subject" "$build/crashes"
  options=(-max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048
    -artifact_prefix="$build/crashes/$target-" -print_final_stats=1)
  [[ -f $here/$subject.dict ]] && options+=(-dict="$here/$subject.dict")
  echo "== $target, $seconds s"
  "$build/$target" "${options[@]}" "$build/corpus/$subject" "$here/corpus/$subject"
done
