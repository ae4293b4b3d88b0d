"""What the networks cost: parameters, and floating-point operations per LR pixel.

    python benchmarks/cost.py [--scale 3]

A multiplication and an addition are two operations. Convolutions and matrix products are counted;
interpolation, norms and activations are not.
"""

from __future__ import annotations

import argparse

from emsr.errors import InputError
from emsr.network.cost import flops_per_lr_pixel
from emsr.network.named import NETWORKS, build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=3)
    scale = parser.parse_args().scale
    print(f"{'network':14s} {'parameters':>12s} {'MFLOP/LR px':>12s} {'halo':>5s} {'radius':>6s}")
    for name in NETWORKS:
        try:
            network = build(name, scale, {})
        except InputError as error:
            print(f"{name:14s} {error}")
            continue
        parameters = sum(p.numel() for p in network.parameters())
        halo, radius = (str(v or "-") for v in (network.halo, network.receptive_radius))
        cost = flops_per_lr_pixel(network) / 1e6
        print(f"{name:14s} {parameters:12,d} {cost:12.2f} {halo:>5s} {radius:>6s}")


if __name__ == "__main__":
    main()
