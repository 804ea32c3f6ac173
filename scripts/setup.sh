#!/usr/bin/env bash
# Set up this checkout: uv, Python 3.12, .venv with the pinned packages, and a renderer for MuJoCo.
#
#   scripts/setup.sh                   set up; returns at once if nothing changed since the last time
#   scripts/setup.sh --lock [option…]  make requirements.txt anew; options go to `uv pip compile`
#
# Writes only to .venv and .uv of this checkout. Debian packages are installed only as root, and only
# where something is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME

readonly VENV=.venv
readonly STAMP=$VENV/.set-up

say() { printf '%s\n' "setup: $*" >&2; }
die() { printf '%s\n' "setup: error: $*" >&2; exit 1; }

# What the environment depends on: pins, package metadata, this script, and where the checkout lies.
fingerprint() { cksum requirements.txt pyproject.toml scripts/setup.sh; pwd; }

# Install Debian packages; fails without a word where that is not possible.
apt_install() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    say "installing $* with apt-get"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return
    apt-get update -qq >/dev/null 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

# Set UV to a uv that runs here: a shim of a version manager may exist and still refuse to run.
find_uv() {
    local candidate
    for candidate in uv .uv/bin/uv "${HOME:-}/.local/bin/uv" "${HOME:-}/.cargo/bin/uv"; do
        if "$candidate" --version >/dev/null 2>&1; then UV=("$candidate"); return; fi
    done
    if python3 -m uv --version >/dev/null 2>&1; then UV=(python3 -m uv); return; fi
    return 1
}

# Install uv into .uv, which leaves the system's Python as it is (also where PEP 668 protects it).
install_uv() {
    say "no uv found, installing it into .uv"
    rm -rf .uv
    if python3 -m venv .uv 2>/dev/null && .uv/bin/python -m pip install --quiet uv; then return; fi
    rm -rf .uv
    python3 -m pip install --quiet --target .uv uv 2>/dev/null
}

# Set PYTHON to a Python 3.12: what uv finds, else pyenv's, else one that uv downloads.
find_python() {
    local candidate
    local -a candidates=()
    candidates+=("$("${UV[@]}" python find --system --no-python-downloads 3.12 2>/dev/null || true)")
    if command -v pyenv >/dev/null; then candidates+=("$(pyenv root)"/versions/3.12*/bin/python); fi
    candidates+=("${HOME:-}"/.pyenv/versions/3.12*/bin/python)
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
            PYTHON=$candidate
            return
        fi
    done
    say "no Python 3.12 found, asking uv to download one"
    "${UV[@]}" python install 3.12 || return 1
    PYTHON=$("${UV[@]}" python find --managed-python 3.12)
}

# Whether MuJoCo draws a picture with the given off-screen backend.
renders_with() {
    MUJOCO_GL=$1 "$VENV/bin/python" - >/dev/null 2>&1 <<'PY'
import mujoco

model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 2'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    raise SystemExit(not renderer.render().any())
PY
}

# The simulator takes OSMesa where it is installed, else EGL.
ensure_renderer() {
    if renders_with osmesa || { apt_install libosmesa6 && renders_with osmesa; }; then return; fi
    if renders_with egl || { apt_install libegl1 libgl1-mesa-dri && renders_with egl; }; then return; fi
    die "MuJoCo cannot render without a screen here. Install OSMesa (Debian, Ubuntu: apt-get install libosmesa6;" \
        "Fedora: dnf install mesa-libOSMesa), then run this again."
}

ensure_uv() {
    find_uv && return
    install_uv || { apt_install python3 python3-venv && install_uv; } || die \
        "found no uv and could not install it. Install uv (any version from 0.5), or Python 3 with its venv and pip" \
        "modules (Debian, Ubuntu: apt-get install python3-venv), then run this again."
    find_uv || die "uv was installed into .uv but does not run"
}

if [ "${1:-}" = --lock ]; then
    shift
    ensure_uv
    "${UV[@]}" pip compile --quiet --python-version 3.12 --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" --extra train --extra pretrained --extra robots --extra onnx --extra isaac --extra ros --extra view --extra so101 --extra dev "$@" \
        pyproject.toml --output-file requirements.txt
    exit
fi

if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; then exit; fi

ensure_uv
if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
    find_python || die \
        "found no Python 3.12 and could not download one. Install Python 3.12 (from your distribution," \
        "with pyenv, or with uv python install 3.12), then run this again."
    say "creating $VENV with $PYTHON"
    "${UV[@]}" venv --quiet --clear --python "$PYTHON" "$VENV"
fi
say "installing the pinned packages of requirements.txt into $VENV"
# Compiled now: where PYTHONDONTWRITEBYTECODE is set, every start would compile torch anew.
"${UV[@]}" pip install --quiet --compile-bytecode --python "$VENV/bin/python" -r requirements.txt
"${UV[@]}" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
ensure_renderer
# The Unitree G1's model goes into the user's cache folder, where the humanoid looks for it; nothing else needs it.
"$VENV/bin/python" -c 'from sim.humanoid.model import compiled; compiled()' >/dev/null ||
    say "the model of the Unitree G1 could not be fetched; the humanoid will try again"
fingerprint >"$STAMP"
say "done"
