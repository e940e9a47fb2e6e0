#!/usr/bin/env bash
set -eu
python -m recbole_perpeft compare --dataset demo --variants content_neighbours --seeds 2020 --out results/demo/content-neighbours
