#!/usr/bin/env bash
# Make the virtual environment that the Makefile works in, and what it needs from the system.
# Does nothing where nothing has changed since the last time.
#
#   scripts/setup.sh [--render]      --render: also the system libraries that Blender needs
#   PYTHON=python3.12                which interpreter (3.11 to 3.13); VENV=.venv which folder
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
RENDER_LIBRARIES='libXi.so.6=libxi6 libxkbcommon.so.0=libxkbcommon0 libSM.so.6=libsm6
    libGL.so.1=libgl1 libEGL.so.1=libegl1 libXrender.so.1=libxrender1 libXfixes.so.3=libxfixes3
    libXxf86vm.so.1=libxxf86vm1'

GRASP_LIBRARIES='libusb-1.0.so.0=libusb-1.0-0 libGL.so.1=libgl1 libEGL.so.1=libegl1
    libX11.so.6=libx11-6 libgomp.so.1=libgomp1'

fail() {
    echo "setup: $*" >&2
    exit 1
}

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.12 python3.11 python3.13}; do
        if supported "$name"; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11 to 3.13 as ${PYTHON:-python3, python3.11, python3.12 or python3.13};" \
        "install one, or name it: make PYTHON=/path/to/python3.12"
}

install_packages() {  # through apt, where that is allowed without asking
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        fail "missing system packages, and no right to install them; run: apt-get install $*"
    fi
    echo "setup: installing $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

ensure_venv() {  # Debian and Ubuntu keep ensurepip in a package of its own
    local python=$1
    if [ -x "$VENV/bin/python" ] && supported "$VENV/bin/python"; then
        return
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    echo "setup: creating $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
}

extras() {  # the wheels of ROS 2 only where no ROS 2 is sourced
    if "$1" -c 'import rclpy' 2>/dev/null; then echo grasp,test; else echo ros,grasp,test; fi
}

install_python_packages() {
    local wanted=$1 stamp="$VENV/.dkt-installed" state
    state="$wanted $PWD $(cat constraints.txt setup.cfg setup.py dkt_ros/__init__.py | sha256sum)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
        return
    fi
    echo "setup: installing dkt_ros[$wanted] into $VENV (some minutes the first time)"
    "$VENV/bin/pip" install -qq --disable-pip-version-check -c constraints.txt torch
    "$VENV/bin/pip" install -qq --disable-pip-version-check -c constraints.txt -e ".[$wanted]"
    echo "$state" > "$stamp"
}

ensure_libraries() {
    local pair known missing=()
    known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    for pair in "$@"; do
        [[ "$known" == *"${pair%=*} "* ]] || missing+=("${pair#*=}")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        install_packages "${missing[@]}"
    fi
}

python=$(find_python)
ensure_venv "$python"
install_python_packages "$(extras "$python")"
# shellcheck disable=SC2086  # the lists are words
ensure_libraries $GRASP_LIBRARIES
if [ "${1:-}" = --render ]; then
    # shellcheck disable=SC2086
    ensure_libraries $RENDER_LIBRARIES
fi
