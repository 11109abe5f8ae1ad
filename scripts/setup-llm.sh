#!/bin/sh
# Make a Python environment with a small language model and its server, outside
# the repository, and print the path of its Python. Only demo-llm and tests of
# reports that want a real model need it; about 600 MB.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${EBBWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ebbwatch}
venv=$cache/llm
stamp=$venv/requirements.installed

if cmp -s "$here/llm-requirements.txt" "$stamp"; then
	echo "$venv/bin/python"
	exit 0
fi
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
	echo "error: install python3 and python3-venv" >&2
	exit 1
fi
mkdir -p "$cache"
echo "making a Python environment with a small language model in $venv" >&2
if ! "$python" -m venv "$venv" >&2; then
	echo "error: install python3-venv" >&2
	exit 1
fi
"$venv/bin/pip" install --disable-pip-version-check --no-deps --only-binary=:all: --progress-bar=off \
	-r "$here/llm-requirements.txt" >&2
cp "$here/llm-requirements.txt" "$stamp"
echo "$venv/bin/python"
