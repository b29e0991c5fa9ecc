#!/bin/sh
# Adds JupyterLab to /opt/dask. Run by deploy/Dockerfile.
set -eu
export UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
# A cluster image with another release of distributed has it here too: what is there stays.
sed -e '/--hash=/d' -e 's/ *\\$//' -e '/^ *#/d' -e '/^dask==/d' -e '/^distributed==/d' /tmp/build/notebook.txt >/tmp/notebook-constraints.txt
/opt/uv/bin/uv pip install jupyterlab dask-labextension ipykernel ipywidgets matplotlib -c /tmp/notebook-constraints.txt
rm /tmp/notebook-constraints.txt
