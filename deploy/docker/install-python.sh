#!/bin/sh
# Fills /opt/dask with the locked packages, or with another release of distributed, and with what the user's file asks
# for, at versions that fit the lock file. Run by deploy/Dockerfile.
set -eu
cd /build/deploy/docker
export UV_LINK_MODE=copy VIRTUAL_ENV=/opt/dask
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"

# Users install more with pip; setuptools, which older Pythons bring with it, is not needed.
/opt/uv/bin/uv venv --quiet --python "$(command -v python)" /opt/dask
/opt/uv/bin/uv pip install "pip==${PIP_VERSION}"

# The lock file without its hashes: versions only.
sed -e '/--hash=/d' -e 's/ *\\$//' -e '/^ *#/d' requirements.txt >/build/constraints.txt
locked=$(sed -n 's/^distributed==//p' /build/constraints.txt)
if [ "${DISTRIBUTED_VERSION:-$locked}" = "$locked" ]; then
  /opt/uv/bin/uv pip install --require-hashes -r requirements.txt
else
  sed -i -E '/^(dask|distributed)==/d' /build/constraints.txt
  sed -i -E "s/^(dask|distributed)==.*/\1==${DISTRIBUTED_VERSION}/" /build/requirements/base.in
  /opt/uv/bin/uv pip install -r requirements.in -c /build/constraints.txt
fi
/opt/uv/bin/uv pip install -r /build/extra-requirements.txt -c /build/constraints.txt

# Tests of these packages and headers for C++ are a fifth of the environment, and nothing imports them.
site=$(/opt/dask/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cd "$site"
find . -type d -name tests \( -path './pandas/*' -o -path './numpy/*' -o -path './pyarrow/*' -o -path './dask/*' \
  -o -path './distributed/*' -o -path './tornado/*' \) -prune -exec rm -rf {} +
rm -rf pyarrow/include pyarrow/src tornado/test

# Where files cannot be written, processes would compile all that they import at each start. Some packages hold files
# of other Python versions, or templates, which do not compile.
/opt/dask/bin/python -m compileall -q -j 0 "$site" >/dev/null || true
