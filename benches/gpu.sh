#!/usr/bin/env bash
# What to measure on a discrete GPU over Vulkan, in one run; prints what benches/RESULTS.md wants to know of it.
#   benches/gpu.sh [LOG]          TIPI_DEVICE picks the device; SIDE, BATCH and CLASSES make the cases smaller
# PyTorch's side needs a CUDA build of torch in the python3 that PYTHON names; without one it is left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
log=${1:-gpu-bench.log}
side=${SIDE:-4096} batch=${BATCH:-64} classes=${CLASSES:-1000} python=${PYTHON:-python3}
# torch DTYPE CASE...: PyTorch's side of a case, where it can run there.
torch() {
    local dtype=$1
    shift
    TIPI_TORCH_DEVICE=cuda TIPI_TORCH_DTYPE=$dtype "$python" benches/peers/pytorch.py "$@" || echo "no PyTorch on CUDA here"
}
{
    date
    cargo build --release --bins --benches
    target/release/tipi devices
    echo "# every kernel this device has, against its twin, and whole towers by each"
    cargo test --release --test kernels --test golden
    echo "# choosing among kernels"
    target/release/tipi tune
    echo "# share of the device's own peaks"
    target/release/tipi bench --pictures "$batch"
    echo "# a product of $side cubed; PyTorch in f32 and f16"
    cargo bench --quiet --bench probe -- gemm-large "$side"
    torch float32 gemm-large "$side"
    torch float16 gemm-large "$side"
    echo "# ViT-B/16, batch $batch; eager PyTorch in f16"
    cargo bench --quiet --bench probe -- image-large "$batch"
    torch float16 image-large "$batch"
    echo "# a PiNI step at $classes classes; the authors' way in PyTorch f16"
    cargo bench --quiet --bench probe -- pini "$classes"
    torch float16 pini "$classes"
} 2>&1 | tee "$log"
