#!/bin/sh
# Installs the command `recluster` of a release for Linux on x64 or arm64, without npm or cargo:
#
#     sh install.sh [VERSION]
#
# The newest version unless one is given. It is put into ~/.local/bin, or the directory that RECLUSTER_INSTALL names, and only if its sum
# is the one that the release's SHA256SUMS has. Where that directory is called bin, its man pages and completions are put into share beside
# it, where man, bash and fish look; zsh does below /usr/local, and elsewhere a line says what to add to its fpath. RECLUSTER_RELEASES is another place that has the releases, such as a mirror.
set -eu

releases=${RECLUSTER_RELEASES:-https://github.com/recluster/recluster/releases}
into=${RECLUSTER_INSTALL:-$HOME/.local/bin}
while [ "$into" != / ] && [ "$into" != "${into%/}" ]; do into=${into%/}; done

fail() {
    echo "install: $*" >&2
    exit 1
}

for tool in curl tar gzip sha256sum; do
    command -v "$tool" >/dev/null || fail "it needs $tool"
done

case $(uname -sm) in
'Linux x86_64') platform=linux-x64 ;;
'Linux aarch64') platform=linux-arm64 ;;
*) fail "there are releases for Linux on x64 and arm64, and this is $(uname -sm)" ;;
esac
# The one for musl is static: it runs with every C library.
case $(getconf GNU_LIBC_VERSION 2>/dev/null) in
'glibc 2.'[0-9] | 'glibc 2.1'[0-9] | 'glibc 2.2'[0-7] | '') platform=$platform-musl ;;
*) platform=$platform-gnu ;;
esac

if [ $# -gt 0 ]; then
    from=$releases/download/v${1#v}
else
    from=$releases/latest/download
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
get() { curl --fail --silent --show-error --location --output "$scratch/$1" "$from/$1" || fail "$from/$1 cannot be had"; }

get SHA256SUMS
line=$(grep "  recluster-[0-9][^ ]*-$platform\.tar\.gz$" "$scratch/SHA256SUMS") || fail "the release at $from has nothing for $platform"
archive=${line#*  }
get "$archive"
(cd "$scratch" && echo "$line" | sha256sum -c - >/dev/null 2>&1) || fail "$archive is not what the release's SHA256SUMS says: nothing is installed"
tar -xzf "$scratch/$archive" -C "$scratch"

# Moved into place: a master that runs the old file keeps it.
mkdir -p "$into"
cp "$scratch/${archive%.tar.gz}/recluster" "$into/recluster.new"
mv "$into/recluster.new" "$into/recluster"

# FILE DIRECTORY [NAME]: what a release has beside the command, for man and shells. The command is there without it.
beside() {
    mkdir -p "$2" 2>/dev/null && cp "$1" "$2/${3:-${1##*/}}" 2>/dev/null || unwritten=$share
}
unwritten=
zsh=
case $into in
*/bin)
    share=${into%/bin}/share
    laid=$scratch/${archive%.tar.gz}
    for page in "$laid"/man/*.1; do
        [ ! -e "$page" ] || beside "$page" "$share/man/man1"
    done
    if [ -d "$laid/completions" ]; then
        beside "$laid/completions/recluster.bash" "$share/bash-completion/completions" recluster
        beside "$laid/completions/recluster.fish" "$share/fish/vendor_completions.d"
        beside "$laid/completions/_recluster" "$share/zsh/site-functions"
        zsh=$share/zsh/site-functions
    fi
    ;;
esac
if [ -n "$unwritten" ]; then
    echo "install: man pages and completions are not all there: $unwritten cannot be written" >&2
fi
# zsh looks below /usr/local, and in no home.
case $zsh in
"" | /usr/local/*) ;;
*) [ ! -e "$zsh/_recluster" ] || echo "for zsh, add to ~/.zshrc before compinit: fpath=($zsh \$fpath)" ;;
esac
echo "$("$into/recluster" --version) is $into/recluster"
