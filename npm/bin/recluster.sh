#!/bin/sh
# The command of this package. It is in the package of this platform, and takes the place of this shell: the process that was
# started is the master.

here=$(dirname "$(readlink -f "$0")")/..
if getconf GNU_LIBC_VERSION >/dev/null 2>&1; then libc=gnu; else libc=musl; fi
case $(uname -sm) in
'Linux x86_64') platform=linux-x64-$libc ;;
'Linux aarch64') platform=linux-arm64-$libc ;;
*)
    echo "recluster: the command runs on Linux, on x64 and arm64, and this is $(uname -sm); require('recluster') works here" >&2
    exit 1
    ;;
esac

# The last one is for package managers that keep packages elsewhere.
for command in \
    "$here/recluster-command" \
    "$here/node_modules/@recluster/$platform/bin/recluster" \
    "$here/../@recluster/$platform/bin/recluster" \
    "$(cd "$here" && node -p "require.resolve('@recluster/$platform/bin/recluster')" 2>/dev/null)"; do
    if [ -x "$command" ]; then
        exec "$command" "$@"
    fi
done

echo "recluster: the package @recluster/$platform is missing: it is an optional dependency. Install without --omit=optional, and with a lockfile that knows this platform" >&2
exit 1
