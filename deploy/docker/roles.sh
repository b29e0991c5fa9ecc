#!/bin/sh
# dask, dask-scheduler, dask-worker, dask-spec and dask-ssh: one file under five names. The roles are dask-ts, other
# sub-commands of `dask` are stock's. DASK_TS_REDIRECT=0 makes all of them stock's.
set -eu
name=${0##*/}
case $name in
  dask) role=${1:-} ;;
  *) role=${name#dask-} ;;
esac
case $role in
  scheduler | worker | spec | ssh | config) [ "$name" != dask ] || shift ;;
  *) exec python -m dask "$@" ;;
esac
case $(printf %s "${DASK_TS_REDIRECT:-1}" | tr '[:upper:]' '[:lower:]') in
  0 | false | no | off) exec python -m dask "$role" "$@" ;;
esac

# Node stops at 4 GB of objects by itself; a scheduler may have most of its container.
if [ "$role" = scheduler ] || [ "$role" = spec ]; then
  mebibytes=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo) / 1024))
  for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
    limit=$(cat "$file" 2>/dev/null || echo max)
    case $limit in
      '' | *[!0-9]*) ;;
      *) [ $((limit / 1048576)) -ge "$mebibytes" ] || mebibytes=$((limit / 1048576)) ;;
    esac
  done
  exec node "--max-old-space-size=$((mebibytes * 7 / 10))" /opt/dask-ts/bin/dask-ts "$role" "$@"
fi
exec /opt/dask-ts/bin/dask-ts "$role" "$@"
