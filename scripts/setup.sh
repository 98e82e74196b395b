#!/bin/sh
# Build the virtual environment: sh scripts/setup.sh .venv
# torch first: the CUDA build where there is an NVIDIA GPU, else the CPU build (the CUDA build is several GB).
set -eu
venv=$1
python=${PYTHON3:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: Python 3.11 or newer is needed, $python is $("$python" -V 2>&1); set PYTHON3=/path/to/python3.11" >&2
    exit 2
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/python -m pip --disable-pip-version-check"
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    echo "installing torch ..."
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
        $pip install -q torch
    else
        $pip install -q 'torch==2.13.0+cpu' 2>/dev/null ||
            $pip install -q --extra-index-url https://download.pytorch.org/whl/cpu 'torch==2.13.0+cpu' ||
            $pip install -q torch
    fi
fi
echo "installing kasa_corda and what it needs ..."
$pip install -q -c scripts/tested-versions.txt -e '.[dev]' || {
    echo "the tested versions (scripts/tested-versions.txt) can't be had here; installing what pyproject.toml allows ..." >&2
    $pip install -q -e '.[dev]'
}
"$venv/bin/python" -c 'import torch; print("torch", torch.__version__, "on", "GPU" if torch.cuda.is_available() else "CPU")'
