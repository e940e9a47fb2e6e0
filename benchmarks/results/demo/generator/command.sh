#!/usr/bin/env bash
set -eu
python benchmarks/generator.py
python benchmarks/drawn_groups.py --seeds 2020 2021
