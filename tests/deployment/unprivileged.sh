#!/bin/sh
# Runs a command as the container does: a user without rights, on a file system that it cannot change, with /data and
# /tmp alone to write to. In a mount namespace of its own: `unshare --mount sh unprivileged.sh PYTHON DATA COMMAND...`
# PYTHON is where the interpreter lives, which may lie in a folder that only root reads; DATA is what /data shall be.
set -eu
python=$1 data=$2
shift 2
mount --make-rprivate /
stage=$(mktemp -d)
mount --bind "$python" "$stage"
mkdir -p /data
chown 10001:10001 "$data"
mount --bind "$data" /data
top=/$(printf %s "${python#/}" | cut -d / -f 1)
if [ "$top" = /root ]; then
    mount -t tmpfs -o mode=755 tmpfs "$top"
    mkdir -p "$python"
    mount --bind "$stage" "$python"
    mount -o remount,bind,ro "$top"
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro /
exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all \
    env -i PATH=/usr/bin:/bin HOME=/data TMPDIR=/tmp PYTHONDONTWRITEBYTECODE=1 ROTOSCOPE_HOME=/data \
    ROTOSCOPE_SANDBOX_WEIGHTS=/data/none.onnx ROTOSCOPE_LOG=json "$@"
