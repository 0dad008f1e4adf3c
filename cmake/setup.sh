#!/bin/sh
# setup.sh [PACKAGE...]: installs what the build needs and is not there yet: Debian's packages (and
# the ones named), and LibTorch as a Python wheel in build/venv. quickstart.sh and test.sh call it.
# MOE_LIBTORCH=FOLDER names a LibTorch that is there already; then none is installed.
set -eu
cd "$(dirname "$0")/.."

torch_version=2.13.0
packages="cmake ninja-build g++ pkg-config libfmt-dev libcli11-dev libtomlplusplus-dev
  nlohmann-json3-dev libpcre2-dev libutf8proc-dev libxml2-dev libedit-dev
  python3 python3-venv ca-certificates $*"

say() { echo "==> $*"; }

missing_packages() {
  for package in $packages; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
      'install ok installed') ;;
      *) echo "$package" ;;
    esac
  done
}

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "This is no Debian system: make sure that you have what these packages hold:" $packages
    return
  fi
  missing=$(missing_packages | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
    if ! command -v sudo >/dev/null || ! sudo -v; then
      echo "These Debian packages are missing, and installing them needs root or sudo. Ask for:" >&2
      echo "  apt-get install --no-install-recommends $missing" >&2
      exit 1
    fi
  fi
  say "Installing Debian packages: $missing"
  $as_root apt-get update -qq
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing >/dev/null
}

# pip writes INSTALLER when a package is complete, so an interrupted installation is done again.
has_wheel() {
  for file in "$venv"/lib/python3*/site-packages/$1.dist-info/INSTALLER; do
    [ -f "$file" ] && return 0
  done
  return 1
}

pip_install() {
  "$venv/bin/python" -m pip install -q --no-compile --disable-pip-version-check "$@"
}

install_libtorch() {
  venv=build/venv
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Making a Python environment in $venv. It only holds LibTorch: no Python runs later."
    python3 -m venv --clear "$venv"
  fi
  if ! has_wheel "torch-$torch_version*"; then
    say "Installing LibTorch $torch_version (the wheel torch: 190 MB without, 530 MB with CUDA)."
    pip_install --no-deps "torch==$torch_version"
  fi
  for libraries in "$venv"/lib/python3*/site-packages/torch/lib; do :; done
  if [ -e "$libraries/libtorch_cuda.so" ] && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    if ! has_wheel 'nvidia_cudnn*' || ! has_wheel 'nvidia_cublas*'; then
      say "There is an NVIDIA GPU: installing the CUDA libraries too (2.5 GB)."
      pip_install "torch==$torch_version"
    fi
  elif readelf -d "$libraries/libtorch_cpu.so" | grep -Eq 'NEEDED.*lib(cupti|cudart)'; then
    if ! has_wheel 'nvidia_cuda_cupti-13.0.*' || ! has_wheel 'nvidia_cuda_runtime-13.0.*'; then
      say "This LibTorch is a CUDA build: installing the two small libraries that its CPU part needs."
      pip_install --no-deps 'nvidia-cuda-cupti==13.0.*' 'nvidia-cuda-runtime==13.0.*'
    fi
  fi
  if ldd "$libraries/libtorch_cpu.so" | grep 'not found' >&2; then
    echo "LibTorch in $venv lacks the libraries above. Remove $venv and run this again." >&2
    exit 1
  fi
}

install_packages
if [ -n "${MOE_LIBTORCH:-}" ]; then
  say "Using the LibTorch in $MOE_LIBTORCH."
else
  install_libtorch
fi
