#!/bin/sh
# make_venv.sh DIRECTORY: a virtual environment with a current pip, made with $PYTHON or the first
# Python >= 3.11 found. An environment that works is kept.
set -eu
venv=$1

wants='import sys; sys.exit(sys.version_info < (3, 11))'

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c "$wants" 2>/dev/null &&
    "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    :
else
    python=
    # An asked-for Python is taken or refused; otherwise the usual one goes before newer ones.
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.13 python3.12 python3.11 python3.14 python
    fi
    for candidate in "$@"; do
        if "$candidate" -c "$wants" >/dev/null 2>&1; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "no Python 3.11 or newer found (tried: $*); try make PYTHON=/path/to/python" >&2
        exit 1
    fi
    echo "creating $venv with $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"
    rm -rf "$venv"
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv "$venv"
    elif "$python" -c 'import venv' 2>/dev/null && "$python" -m pip --version >/dev/null 2>&1; then
        # Debian splits ensurepip off; an outside pip (22.3 or newer) can stand in for it.
        "$python" -m venv --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check pip
    else
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "$python cannot make virtual environments: it has no ensurepip." >&2
        echo "On Debian or Ubuntu: apt-get install python$version-venv; or name another Python: make PYTHON=..." >&2
        exit 1
    fi
fi

# --group came with pip 25.1.
if ! "$venv/bin/python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))'; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
fi
