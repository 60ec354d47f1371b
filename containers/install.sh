#!/bin/sh
# Stage 2 of the images, run as root in a folder with EOQ's sources: installs EOQ in /opt/eoq for a user of its own, and
# unpacks the tar of containers/build.sh, which lies in PACKAGE.
# usage: containers/install.sh PACKAGE
set -eu

package=$1
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates libgomp1 python3-venv >/dev/null
rm -rf /var/lib/apt/lists/*

python3 -m venv /opt/eoq
# the build of PyTorch that images of a GPU need is another
if [ ! -d "$package/cuda" ]; then
    export PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL-https://download.pytorch.org/whl/cpu}"
fi
PIP_CONSTRAINT=constraints.txt /opt/eoq/bin/pip install -q --no-cache-dir --disable-pip-version-check .
install -m 755 containers/entrypoint.sh /usr/local/bin/eoq-container

# whoever the container runs as may write there
mkdir -p /cache /work
chmod 1777 /cache /work
if ! id eoq >/dev/null 2>&1; then useradd --home-dir /cache --no-create-home eoq; fi
EOQ_CACHE=/cache /opt/eoq/bin/eoq setup --tar "$(echo "$package"/*.tar.xz)"
rm -rf /cache/downloads # the lock in it is root's
