#!/bin/sh
# Entrypoint of the image: prepares what variables ask for, then becomes its arguments. deploy/image.md lists them.
# shellcheck disable=SC3045 # ulimit -H and -S: dash and bash have both
set -eu

say() { printf 'prepare: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

# Deployers raise the hard limit of open files; processes get the soft one, which is 1024 in many places.
limit=$(ulimit -H -n)
if [ "$limit" = unlimited ] || [ "$limit" -gt 65535 ]; then limit=65535; fi
if [ "$(ulimit -S -n)" != unlimited ] && [ "$(ulimit -S -n)" -lt "$limit" ]; then ulimit -S -n "$limit"; fi

# Packages at the start are for trying things out: each start pays for them. Build an image for more.
if [ -n "${EXTRA_APT_PACKAGES:-}" ]; then
  [ "$(id -u)" = 0 ] || fail "EXTRA_APT_PACKAGES needs root: run the container as user 0, or build an image FROM this one"
  say "installing $EXTRA_APT_PACKAGES"
  apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $EXTRA_APT_PACKAGES >&2
fi
if [ -e /opt/app/environment.yml ] || [ -e /opt/app/requirements.txt ] ||
  [ -n "${EXTRA_CONDA_PACKAGES:-}${EXTRA_PIP_PACKAGES:-}" ]; then
  target=$(python /opt/dask-ts/docker/extra_packages.py) || fail "packages could not be installed, see above"
  [ -z "$target" ] || export PYTHONPATH="$target${PYTHONPATH:+:$PYTHONPATH}"
fi

# TLS material as PEM text, plain or in base64: written where only this container sees it, and not passed on.
if [ -n "${DASK_TS_TLS_CA:-}${DASK_TS_TLS_CERT:-}${DASK_TS_TLS_KEY:-}" ]; then
  [ -n "${DASK_TS_TLS_CA:-}" ] && [ -n "${DASK_TS_TLS_CERT:-}" ] && [ -n "${DASK_TS_TLS_KEY:-}" ] ||
    fail "DASK_TS_TLS_CA, DASK_TS_TLS_CERT and DASK_TS_TLS_KEY go together; one is missing"
  for folder in "${DASK_TS_TLS_DIR:-}" /dev/shm "${TMPDIR:-/tmp}"; do
    if [ -n "$folder" ] && [ -w "$folder" ]; then break; fi
  done
  tls=$(umask 077 && mktemp -d "$folder/dask-tls.XXXXXX")
  pem() {
    case $1 in
      *-----BEGIN*) printf '%s\n' "$1" ;;
      *) printf %s "$1" | base64 -d ;;
    esac >"$tls/$2"
    grep -q -e '-----BEGIN' "$tls/$2" || fail "$3 is neither PEM text nor PEM text in base64"
    chmod 600 "$tls/$2"
  }
  pem "$DASK_TS_TLS_CA" ca.pem DASK_TS_TLS_CA
  pem "$DASK_TS_TLS_CERT" cert.pem DASK_TS_TLS_CERT
  pem "$DASK_TS_TLS_KEY" key.pem DASK_TS_TLS_KEY
  unset DASK_TS_TLS_CA DASK_TS_TLS_CERT DASK_TS_TLS_KEY
  export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="${DASK_DISTRIBUTED__COMM__TLS__CA_FILE:-$tls/ca.pem}"
  for role in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$tls/cert.pem" "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$tls/key.pem"
  done
  export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION="${DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION:-true}"
  export DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME="${DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME:-tls}"
fi

# For people who compare a notebook with a cluster.
case "$*" in
  *dask* | *jupyter*) python /opt/dask-ts/docker/versions.py >&2 ;;
esac

exec "$@"
