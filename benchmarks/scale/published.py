"""Figures that others have published, each with its source. Times are microseconds unless a name
says another unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Source:
    what: str
    who: str
    when: str
    where: str


TUNING = Source(
    "NCCL 2.30.7, src/graph/tuning.cc, the model by which NCCL chooses an algorithm: its default "
    "constants, and its formula for the latency of a tree",
    "NVIDIA",
    "2026",
    "https://github.com/NVIDIA/nccl/blob/5067397c2676d5aed50042fc39e5c8ee96eb0027/src/graph/tuning.cc",
)
LOG = Source(
    "NCCL issue 1453: a log of the times that NCCL's model expects on 16 H100 in 2 nodes, where it "
    "chooses a tree and LL up to 8 kB at least",
    "twichell",
    "2024",
    "https://github.com/NVIDIA/nccl/issues/1453",
)
A100_256 = Source(
    "NCCL issue 652, NCCL performance on 32 node cluster: nccl-tests, 8 bytes, out of place",
    "manjunaths",
    "2022",
    "https://github.com/NVIDIA/nccl/issues/652",
)
PCI_16 = Source(
    "NCCL issue 757: nccl-tests on PCI Express 3 by a maintainer of NCCL, 8 bytes, out of place; "
    "of trees, that latency grows with the logarithm of the nodes, and linearly within one",
    "S. Jeaugey",
    "2022",
    "https://github.com/NVIDIA/nccl/issues/757",
)
H20_8 = Source(
    "DeepEP issue 303: nccl-tests on one node, 8 and 4096 bytes, out of place",
    "LCAI-TIHU",
    "2025",
    "https://github.com/deepseek-ai/DeepEP/issues/303",
)
TCPX_16 = Source(
    "NCCL test result of 16 H100 in 2 virtual machines of Google Cloud (a3-megagpu), 8 bytes, out "
    "of place",
    "lessizzmore",
    "undated",
    "https://github.com/lessizzmore/create-a3mega-ztan-fork/blob/02dd8f455c43ced1cf442ef29334bda97149264b/ztan-NCCL-test-result",
)
EFA_64 = Source(
    "NCCL Tests on 8 node p3dn.24xlarge + EFA: 8 bytes, out of place",
    "J. Kahn",
    "2019",
    "https://gist.github.com/jacobkahn/3150a1a38abba40f58d8263d9c55969f",
)
MMSEGMENTATION = Source(
    "MMSegmentation, Benchmark and Model Zoo, Training speed",
    "OpenMMLab",
    "2020",
    "https://github.com/open-mmlab/mmsegmentation/blob/94f9cb4e1dbffa13323dde65ce13b8af61e5ff07/docs/en/model_zoo.md",
)
NNUNET = Source(
    "nnU-Net, nnU-Netv2 benchmarks, Result interpretation",
    "Division of Medical Image Computing, DKFZ",
    "2023",
    "https://github.com/MIC-DKFZ/nnUNet/blob/06b369a8ff2a45b23999a97eb9135468fd69e7b4/documentation/benchmarking.md",
)

# ---- what the model of latency is made of --------------------------------------------------------

NVLINK, PCI = "NVLink", "PCI Express"
#: Of an all-reduce by a tree with the protocol LL, which small messages have (TUNING).
BASE = 6.8
#: Of a hop within a node, and between nodes (TUNING).
HOP = {NVLINK: 0.6, PCI: 1.0}
NETWORK_HOP = 5.0
#: Of a byte: the slope between 128 and 8192 bytes (LOG). Its other end, 25.2 of 128 bytes, is what
#: the constants above give for 2 nodes of 8.
BYTE = (26.549810 - 25.214764) / (8192 - 128)

# ---- what it is held against: none of these went into it -----------------------------------------


@dataclass(frozen=True)
class Measured:
    """A time that was published of one all-reduce."""

    gpus: str
    ranks: int
    per_node: int
    link: str
    network: str
    bytes: int
    time: float
    source: Source


#: Machines of the kind that the constants are of.
MEASURED = (
    Measured("H20", 8, 8, NVLINK, "none", 8, 12.49, H20_8),
    Measured("H20", 8, 8, NVLINK, "none", 4096, 16.69, H20_8),
    Measured("GPUs", 16, 8, PCI, "100 Gbit/s", 8, 29.79, PCI_16),
    Measured("A100", 256, 8, NVLINK, "InfiniBand HDR", 8, 62.99, A100_256),
)
#: Networks of clouds, which have other latencies.
ELSEWHERE = (
    Measured("H100", 16, 8, NVLINK, "Google Cloud, Ethernet", 8, 135.8, TCPX_16),
    Measured("V100", 64, 8, NVLINK, "AWS, EFA of 2019", 8, 631.3, EFA_64),
)

# ---- steps of training ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    what: str
    seconds: float
    source: Source


STEPS = (
    Step("PSPNet, ResNet-101, 2 images of 512 x 1024 on each V100", 0.83, MMSEGMENTATION),
    # 250 iterations in 10 s.
    Step("nnU-Net, 2D, 366 small images on an A100", 0.04, NNUNET),
)

SOURCES = (
    *(TUNING, LOG, H20_8, PCI_16, A100_256, TCPX_16, EFA_64),
    *(MMSEGMENTATION, NNUNET),
)


def sources() -> list[dict[str, str]]:
    return [asdict(source) for source in SOURCES]
