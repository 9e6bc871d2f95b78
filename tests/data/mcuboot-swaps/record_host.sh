#!/bin/sh
# Records what MCUboot's own bootutil, compiled for this machine, makes of its slots. README.md has the format.
#
#     tests/data/mcuboot-swaps/record_host.sh MCUBOOT_TREE OUT
#
# MCUBOOT_TREE is a checkout of MCUboot, OUT the folder for the recordings. Needs a C compiler, OpenSSL's headers and
# this project's tests. PYTHON names the interpreter (default: python3).
set -eu

tree=$1
out=$2
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for header in mcuboot_config/mcuboot_config.h mcuboot_config/mcuboot_logging.h sysflash/sysflash.h \
    flash_map_backend/flash_map_backend.h; do
    mkdir -p "$work/$(dirname "$header")"
    echo '#include "host_port.h"' > "$work/$header"
done
mkdir -p "$work/os"
echo '#include <stdlib.h>' > "$work/os/os_malloc.h"

# build NAME SECTORS DEFINITION...
build() {
    name=$1
    sectors=$2
    shift 2
    sources=
    for source in loader bootutil_loader bootutil_area bootutil_misc bootutil_public swap_misc swap_move \
        swap_offset swap_scratch; do
        sources="$sources $tree/boot/bootutil/src/$source.c"
    done
    # shellcheck disable=SC2086
    ${CC:-cc} -shared -fPIC -O1 -g -Wl,-Bsymbolic -DMCUBOOT_MAX_IMG_SECTORS="$sectors" "$@" -I"$work" -I"$here" \
        -I"$tree/boot/bootutil/include" -I"$tree/boot/bootutil/src" -o "$work/$name.so" $sources "$here/host.c" -lcrypto
}

build move 256 -DMCUBOOT_SWAP_USING_MOVE
build move_two_pages 512 -DMCUBOOT_SWAP_USING_MOVE
build offset 256 -DMCUBOOT_SWAP_USING_OFFSET
build offset_two_pages 600 -DMCUBOOT_SWAP_USING_OFFSET
build overwrite 256 -DMCUBOOT_OVERWRITE_ONLY -DMCUBOOT_OVERWRITE_ONLY_FAST
build overwrite_two_pages 512 -DMCUBOOT_OVERWRITE_ONLY -DMCUBOOT_OVERWRITE_ONLY_FAST
"${PYTHON:-python3}" "$here/record_host.py" "$work" "$out"
