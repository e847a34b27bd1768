#!/usr/bin/env bash
# Try HEAD with the Pythons of newer Debians: trixie has 3.13 and forky has 3.14. In a root that
# debootstrap makes, an ordinary user types `make repro` in a fresh clone; then `git status` has to
# be empty, and all tests have to pass. As root, after `apt install debootstrap`; half an hour and
# 7 GB for each, of which nothing stays. Where packages come from, the environment says, as always.
#
#     make other-pythons
#     tests/same_bits/other_pythons.sh forky    # only this one
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
    echo "Skipped: other Pythons need root and debootstrap, which makes the Debian roots they are in."
    exit 0
fi
[ $# != 0 ] || set -- trixie forky

for release; do
    root=$(mktemp -d "/var/tmp/$release.XXXXXX")
    trap 'rm -rf "$root" "$root.log"' EXIT
    # By the script of sid, since an older debootstrap does not know the newest names.
    chmod 755 "$root"
    debootstrap --variant=minbase "$release" "$root" "" /usr/share/debootstrap/scripts/sid \
        > "$root.log" ||
        { tail -n 1 "$root.log" >&2; exit 2; }
    # A mirror of Debian's next release may be some weeks old; it is signed all the same.
    chroot "$root" sh -c 'apt-get -qq -o Acquire::Check-Valid-Until=false update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
        --no-install-recommends ca-certificates chromium git make python3-venv strace' > "$root.log" 2>&1 ||
        { tail -n 3 "$root.log" >&2; exit 1; }
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"  # a company's proxy may have its own
    chroot "$root" useradd --create-home somebody
    home=$root/home/somebody
    git clone --quiet . "$home/project"
    mnist=${MNIST_MIRROR:-../shared/mnist}
    [ ! -d "$mnist" ] || { mkdir "$home/shared"; cp -rL "$mnist" "$home/shared/mnist"; }
    chroot "$root" chown -R somebody: /home/somebody

    # In namespaces of their own, so that no mount and no process is left when it ends.
    unshare --mount --pid --fork --kill-child bash -euc '
        mount --rbind /dev "$1/dev"
        mount -t proc proc "$1/proc"
        exec chroot --userspec=somebody: "$1" env -u MAKEFLAGS -u MAKELEVEL -u MNIST_MIRROR -u TMPDIR \
            -u VIRTUAL_ENV HOME=/home/somebody PATH=/usr/bin:/bin bash -euc "$2"
    ' - "$root" '
        cd ~/project
        make --silent repro
        git status --short | tee ~/changes
        [ ! -s ~/changes ]
        echo "$(python3 --version): the committed bits"
        make --silent test-all
    '
    rm -rf "$root" "$root.log"
    echo "$release: reproduced, and all tests passed"
done
