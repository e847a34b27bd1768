#!/usr/bin/env bash
# Make .arm64: Python and the packages of requirements-dev.txt for 64-bit ARM, which
# tests/same_bits/emulated_cpus.py runs under qemu-aarch64. On Debian 12, as root, after
# `apt install qemu-user`; 6 GB.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6
    zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1 libgomp1
    libreadline8 libncursesw6 libtinfo6 libdb5.3 libnsl2 libtirpc3)

dpkg --add-architecture arm64
apt-get -qq update
root=$PWD/.arm64/root
mkdir -p "$root/proc" .arm64/debs
(cd .arm64/debs && apt-get -qq download "${packages[@]/%/:arm64}")
for deb in .arm64/debs/*.deb; do dpkg --extract "$deb" "$root"; done

# torch asks the kernel what CPU this is; the emulator would answer with the real one.
for number in 0 1; do
    printf '%s\t: %s\n' processor $number Features 'fp asimd crc32 atomics asimdrdm asimddp' \
        'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x3 'CPU part' 0xd0c \
        'CPU revision' 1
    echo
done > "$root/proc/cpuinfo"

uv pip install --quiet --system-certs --target .arm64/site --python-version 3.11 \
    --python-platform aarch64-manylinux_2_39 --require-hashes --only-binary :all: \
    --no-binary antlr4-python3-runtime --build-constraints requirements-build.txt \
    --requirements requirements-dev.txt

# The compiler would be emulated, too; this computer's compiles for others as well.
SAMEBITS_CACHE=.arm64/kernels python -c "from samebits.library import build; build('aarch64')"
