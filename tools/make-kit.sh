#!/usr/bin/env bash
# Makes a kit: what building Strata needs beside CUDA, CMake and a compiler, for a machine where nothing
# can be installed. Headers and static libraries of this machine's Debian packages, in one file that
# tools/gpu-check.sh finds and unpacks, or you do, to configure with -DSTRATA_KIT=DIR.
#
#   tools/make-kit.sh                kit/strata-kit-ARCH.tar.gz, and prints what is in it
#   tools/make-kit.sh --out DIR      the same in DIR
#
# A kit has all of the program, its tests and its benches but MPI and oneDNN. It holds for machines of
# this architecture with glibc and libstdc++ not older than this one's.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."

out=kit
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out="$(cd "$here" && realpath -m -- "${2:?--out needs a directory}")"; shift 2 ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "error: unknown argument '$1'; see $0 --help" >&2; exit 2 ;;
  esac
done
command -v dpkg-query >/dev/null || {
  echo "error: a kit is made of Debian packages, and there is no dpkg here: make it on Debian" >&2
  exit 1
}
tools/install-dependencies.sh

# The format of the kit (cmake/kit.cmake checks it): changes when what is in it or where does.
format=1
architecture="$(uname -m)"
name="strata-kit-$architecture"
triplet="$(gcc -print-multiarch)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
kit="$scratch/$name"
mkdir -p "$kit/include" "$kit/lib"
echo "strata-kit $format $architecture" >"$kit/KIT"

# take PACKAGE LIBRARY...: its headers, and of its static libraries those that are named.
take() {
  local package="$1" file path
  shift
  while read -r file; do
    [ -f "$file" ] || continue
    case "$file" in
      "/usr/include/$triplet/"*) path="${file#"/usr/include/$triplet/"}" ;;
      /usr/include/*) path="${file#/usr/include/}" ;;
      *) continue ;;
    esac
    install -D -m 644 "$file" "$kit/include/$path"
  done < <(dpkg -L "$package")
  for file; do install -m 644 "$(realpath "/usr/lib/$triplet/$file")" "$kit/lib/$file"; done
  install -D -m 644 "/usr/share/doc/$package/copyright" "$kit/licences/$package"
  dpkg-query -W -f='${Package} ${Version}\n' "$package" >>"$kit/KIT"
}
take libfmt-dev  # its headers hold all of it
take libtomlplusplus-dev
take nlohmann-json3-dev
take libcli11-dev
take liburing-dev liburing.a
take libaio-dev libaio.a
take libxxhash-dev
take libxxhash0 libxxhash.so.0  # the static one has no dispatch by instruction set
take libhwloc-dev libhwloc.a
take libudev1 libudev.so.1  # of libhwloc.a; there is no static one
take libgtest-dev libgtest.a
take libgmock-dev libgmock.a libgmock_main.a
take libbenchmark-dev libbenchmark_main.a
take libbenchmark1debian libbenchmark.so.1debian  # there is no static one

mkdir -p "$out"
# The same packages make the same file.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$scratch" -c "$name" |
  gzip -9n >"$scratch/kit.tar.gz"
mv "$scratch/kit.tar.gz" "$out/$name.tar.gz"
cat "$kit/KIT"
echo "$out/$name.tar.gz: $(stat -c %s "$out/$name.tar.gz") bytes, $(du -sk "$kit" | cut -f1) KiB unpacked"
