#!/usr/bin/env bash
# Installs what building Strata needs, on Debian and its kin. Does nothing when all is there.
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config ccache
  liburing-dev libaio-dev libhwloc-dev libdnnl-dev libxxhash-dev
  libfmt-dev libtomlplusplus-dev nlohmann-json3-dev libcli11-dev
  libopenmpi-dev openmpi-bin
  libgtest-dev libgmock-dev libbenchmark-dev
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "error: these packages are missing, and there is no apt-get to install them: ${missing[*]}" >&2
  exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "error: run as root (or install sudo) to install: ${missing[*]}" >&2
    exit 1
  }
  root=(sudo)
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
